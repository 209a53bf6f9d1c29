"""The per-item results of a task, from which its score can be computed again on any resample of the items.

Shapes: N items, K ways of scoring (mteb's `max_ap` takes the best of several).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from selfembed.ground.hashing import content_hash

MEAN, SPEARMAN, PRECISION = "mean", "spearman", "average precision"
Numbers = Sequence[float] | np.ndarray
DRAWS = "draws"  # the unit that is no item: the same texts, drawn again


@dataclass(frozen=True, kw_only=True, eq=False)
class Items:
    """The results of one split and language, item by item.

    Attributes:
        part: The split and language.
        unit: What an item is: `pairs`, `texts`, `queries`, `sets`, or `draws`, which are all of the same texts.
        key: A content hash of what the items are (labels, identifiers); only items of one key can be paired.
        statistic: How the score follows from the values: as their `mean`; as `spearman`, their rank correlation with
            gold; or as `average precision` of their order for gold 0 and 1, the best of K.
        values_KN: The values in float32; dense ranks unless the statistic is the mean, since nothing else counts.
        gold_N: The dense ranks, or 0 and 1, that the values are compared with; None for the mean.
    """

    part: str
    unit: str
    key: str
    statistic: str
    values_KN: np.ndarray
    gold_N: np.ndarray | None = None

    def __len__(self) -> int:
        items: int = self.values_KN.shape[1]
        return items

    @property
    def score(self) -> float:
        """Computes the statistic over all items."""
        return statistic_of(self)(np.ones(len(self)))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; arrays become base64 of little-endian float32, K x N."""
        return {
            "part": self.part,
            "unit": self.unit,
            "key": self.key,
            "statistic": self.statistic,
            "ways": len(self.values_KN),
            "values": _encoded(self.values_KN),
            "gold": None if self.gold_N is None else _encoded(self.gold_N),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Items:
        """Makes items out of what :meth:`to_dict` gave.

        Raises:
            ValueError: A value is not what :meth:`to_dict` gives.
                KeyError: A value is missing.
                TypeError: A value is of another type.
        """
        about = {name: str(record[name]) for name in ("part", "unit", "key", "statistic")}
        values_KN = _decoded(record["values"]).reshape(int(record["ways"]), -1)
        gold_N = None if record["gold"] is None else _decoded(record["gold"])
        if about["statistic"] not in (MEAN, SPEARMAN, PRECISION) or not values_KN.size:
            raise ValueError("unknown per-item results")
        if (gold_N is None) != (about["statistic"] == MEAN):
            raise ValueError("per-item results without what they are compared with")
        if gold_N is not None and gold_N.shape != values_KN.shape[1:]:
            raise ValueError("per-item results that do not fit what they are compared with")
        return cls(values_KN=values_KN, gold_N=gold_N, **about)


def mean_items(part: str, unit: str, values: Sequence[float], identity: Any) -> Items:
    """Makes items whose mean is the score."""
    values_KN = np.asarray([values], dtype=np.float32)
    return Items(part=part, unit=unit, key=content_hash(unit, identity), statistic=MEAN, values_KN=values_KN)


def ranked_items(part: str, statistic: str, values: Sequence[Numbers], gold: Sequence[float]) -> Items:
    """Makes items of pairs whose order by K values, high first, is compared with gold.

    Raises:
        ValueError: A value is not finite, or gold for average precision is neither 0 nor 1.
    """
    rows = {row.tobytes(): row for row in map(_dense_ranks, values)}  # ways of one order count once
    gold_N = _dense_ranks(gold) if statistic == SPEARMAN else np.asarray(gold, dtype=np.float32)
    if statistic == PRECISION and not set(gold_N.tolist()) <= {0.0, 1.0}:
        raise ValueError("labels other than 0 and 1")
    key = content_hash(statistic, [float(value) for value in gold])
    values_KN = np.stack(list(rows.values()))
    return Items(part=part, unit="pairs", key=key, statistic=statistic, values_KN=values_KN, gold_N=gold_N)


def statistic_of(items: Items) -> Callable[[np.ndarray], float]:
    """Returns a function that scores a resample, given `counts_N`, how often each item is in it.

    The score is NaN where the resample has none: only one rank, or no positive pair.
    """
    values_KN = items.values_KN.astype(np.float64)
    if items.statistic == MEAN:
        return lambda counts_N: float(counts_N @ values_KN[0] / counts_N.sum())
    gold_N = items.gold_N
    assert gold_N is not None, "only the mean is of values alone"
    if items.statistic == SPEARMAN:
        first_N, second_N = (np.unique(row_N, return_inverse=True)[1] for row_N in (gold_N, values_KN[0]))
        return lambda counts_N: _spearman(first_N, second_N, counts_N)
    ways = []
    for row_N in values_KN:
        order_N = np.argsort(-row_N, kind="stable")
        # the last place of each run of equal values
        ends = np.flatnonzero(np.append(np.diff(row_N[order_N]) != 0, True))
        ways.append((order_N, gold_N[order_N].astype(np.float64), ends))
    return lambda counts_N: max(_average_precision(*way, counts_N) for way in ways)


def _spearman(first_N: np.ndarray, second_N: np.ndarray, counts_N: np.ndarray) -> float:
    """Computes Pearson's correlation of the mid-ranks within the resample."""
    total = counts_N.sum()
    centred = []
    for class_N in (first_N, second_N):
        size = np.bincount(class_N, weights=counts_N)
        centred.append((np.cumsum(size) - (size + total) / 2)[class_N])  # mid-rank less its mean
    x_N, y_N = centred
    weighted_N = counts_N * x_N
    spread = np.sqrt((weighted_N @ x_N) * ((counts_N * y_N) @ y_N))
    return float(weighted_N @ y_N / spread) if spread > 0 else float("nan")


def _average_precision(order_N: np.ndarray, gold_N: np.ndarray, ends: np.ndarray, counts_N: np.ndarray) -> float:
    """Computes the average precision of a resample as scikit-learn does."""
    weight_N = counts_N[order_N]
    found = np.cumsum(weight_N * gold_N)[ends]
    seen = np.cumsum(weight_N)[ends]
    if not found[-1]:
        return float("nan")
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    return float(np.diff(found, prepend=0) @ precision / found[-1])


def _dense_ranks(values: Numbers) -> np.ndarray:
    """Ranks values from 0 for the least, equal for equals; float32 holds ranks exactly up to 16 million."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("values that are not finite")
    return np.unique(array, return_inverse=True)[1].astype(np.float32)


def _encoded(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def _decoded(text: str) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("values that are not finite")
    return array
