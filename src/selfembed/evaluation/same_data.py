"""Whether scores may be compared: of the same data, and no run twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfembed.errors import InputError
from selfembed.evaluation.scores import TaskScore


def require_distinct_runs(runs: Sequence[tuple[str, dict[str, Any] | None]]) -> None:
    """Refuses two runs of one plan and one seed, whose spread would say nothing.

    Args:
        runs: The name of each embedder with what :func:`~selfembed.evaluation.identity.training_run` says of it.

    Raises:
        InputError: A run is there twice.
    """
    seen: dict[tuple[Any, Any], str] = {}
    for name, run in runs:
        if run is None:
            continue
        key = (run["plan"], run["seed"])
        if key in seen:
            raise InputError(
                f"{name}: is a second run of one recipe with seed {run['seed']}, beside {seen[key]}; expected runs of "
                "different seeds; leave one out"
            )
        seen[key] = name


def require_same_data(name: str, given: Sequence[tuple[str, TaskScore | None]]) -> None:
    """Refuses scores of one task that cannot be compared.

    Args:
        name: The task's name.
        given: The name of each embedder with its score; None where it has none.

    Raises:
        InputError: Two scores differ in their metric, category, data, revision, splits, languages, seed, texts or
            labels.
    """
    ran = [(label, score) for label, score in given if score is not None and score.score is not None]
    for other, score in ran[1:]:
        first, base = ran[0]
        # hub and exact are the same data by mteb's own statistics; the texts decide
        sources = {base.data, score.data}
        same_source = len(sources) == 1 or (sources == {"hub", "exact"} and base.texts_hash == score.texts_hash)
        pairs: list[tuple[str, Any, Any, bool]] = [
            ("metric", base.metric, score.metric, base.metric == score.metric),
            ("category", base.category, score.category, base.category == score.category),
            ("data", base.data, score.data, same_source),
            ("revision", str(base.revision)[:8], str(score.revision)[:8], base.revision == score.revision),
            ("splits", base.splits, score.splits, set(base.splits) == set(score.splits)),
            ("languages", base.languages, score.languages, set(base.languages) == set(score.languages)),
            ("seed of draws", base.seed, score.seed, base.seed == score.seed),
        ]
        if base.texts_hash and score.texts_hash:
            same = base.texts_hash == score.texts_hash
            pairs.append(("texts", base.texts_hash[:8], score.texts_hash[:8], same))
        for what, left, right, same in pairs:
            if not same:
                raise InputError(
                    f"task {name}: {what} {_value(left)} for {first}, but {_value(right)} for {other}; expected the "
                    "same; evaluate both on the same data"
                )
        for left, right in zip(base.items, score.items, strict=False):
            alike = (left.part, left.unit) == (right.part, right.unit)
            if alike and left.unit in ("pairs", "texts", "queries") and left.key != right.key:
                raise InputError(
                    f"task {name}: other labels or judgements of {left.part} for {first} than for {other}; expected "
                    "the same; evaluate both on the same data"
                )


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
