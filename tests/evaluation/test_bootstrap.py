"""The bootstrap on cases whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from selfembed.evaluation.bootstrap import percentile_interval, resampled_scores, seed_of
from selfembed.evaluation.items import PRECISION, SPEARMAN, Items, mean_items, ranked_items, statistic_of


def correlated(random: np.random.Generator, size: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Gold with ties, and scores that follow it."""
    gold = random.integers(6, size=size).astype(float)
    return gold, gold + noise * random.standard_normal(size)


def test_statistics_of_resamples_are_those_of_scipy_and_sklearn() -> None:
    random = np.random.default_rng(0)
    gold, values = correlated(random, 60, 2.0)
    values = values.round()  # ties on both sides
    other = random.standard_normal(60)
    labels = (gold > 3).astype(int)
    spearman = statistic_of(ranked_items("test", SPEARMAN, [values], gold))
    precision = statistic_of(ranked_items("test", PRECISION, [values, other], labels))
    mean = statistic_of(mean_items("test", "texts", labels, []))
    for _ in range(20):
        drawn = random.integers(60, size=60)
        counts = np.bincount(drawn, minlength=60).astype(float)
        assert spearman(counts) == pytest.approx(spearmanr(gold[drawn], values[drawn]).statistic, abs=1e-12)
        ways = [average_precision_score(labels[drawn], way[drawn]) for way in (values, other)]
        assert precision(counts) == pytest.approx(max(ways), abs=1e-12)
        assert mean(counts) == pytest.approx(labels[drawn].mean())


def test_spearman_interval_agrees_with_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    gold, first = correlated(random, 150, 2.0)
    second = gold + 3.0 * random.standard_normal(150)
    items = [ranked_items("test", SPEARMAN, [values], gold) for values in (first, second)]
    found = resampled_scores(items, resamples=1_000, seed=7)
    plain = []
    for _ in range(1_000):
        drawn = random.integers(150, size=150)
        plain.append([spearmanr(gold[drawn], values[drawn]).statistic for values in (first, second)])
    expected = np.quantile(np.diff(plain, axis=1), [0.025, 0.975])
    assert percentile_interval(found[1] - found[0]) == pytest.approx(expected, abs=0.02)


def test_the_interval_of_a_mean_covers_as_often_as_it_says() -> None:
    """Of 300 test sets drawn from a population, 95 % have intervals with the population's difference in them."""
    random = np.random.default_rng(2)
    inside = 0
    for number in range(300):
        shared = random.random(80)
        first, second = ((shared + 0.3 * random.random(80) > limit) for limit in (0.6, 0.5))
        items = [mean_items("test", "texts", right, []) for right in (first, second)]
        scores = resampled_scores(items, resamples=300, seed=number)
        low, high = percentile_interval(scores[1] - scores[0])
        # P(s + 0.3 r > limit), both uniform: 1 - (limit - 0.15); the difference is that of the limits
        inside += low <= 0.1 <= high
    assert 0.91 <= inside / 300 <= 0.98


def test_the_same_embedder_differs_by_nothing_and_a_like_one_by_nothing_significant() -> None:
    random = np.random.default_rng(3)
    gold, values = correlated(random, 100, 1.0)
    like = gold + 1.0 * random.standard_normal(100)
    items = [ranked_items("test", SPEARMAN, [row], gold) for row in (values, values, like)]
    scores = resampled_scores(items, resamples=500, seed=0)
    assert percentile_interval(scores[1] - scores[0]) == (0.0, 0.0)
    low, high = percentile_interval(scores[2] - scores[0])
    assert low < 0 < high


def test_pairing_makes_intervals_narrow() -> None:
    """Where both fail on the same items, the difference is better known than either score."""
    hard = np.random.default_rng(4).random(400)
    items = [mean_items("test", "queries", np.clip(hard + shift, 0, 1.5), []) for shift in (0.0, 0.02)]
    first, second = resampled_scores(items, resamples=300, seed=0)
    low, high = percentile_interval(second - first)
    assert low > 0 and high - low < 0.01 < np.ptp(percentile_interval(first))


def test_draws_hang_on_seed_and_name_alone() -> None:
    items = [mean_items("test", "texts", [0, 1, 0, 1, 1], [])]
    seeds = [seed_of(0, "a", "test"), seed_of(0, "a", "test"), seed_of(1, "a", "test"), seed_of(0, "b", "test")]
    draws = [resampled_scores(items, resamples=50, seed=seed) for seed in seeds]
    assert (draws[0] == draws[1]).all()
    assert not (draws[0] == draws[2]).all() and not (draws[0] == draws[3]).all()


def test_resamples_without_a_score_are_left_out_unless_they_are_many() -> None:
    values = np.r_[np.full(5, np.nan), np.arange(95)]
    assert percentile_interval(values) == pytest.approx((2.35, 91.65))
    assert percentile_interval(np.r_[np.full(20, np.nan), np.arange(80)]) is None
    one_positive = ranked_items("test", PRECISION, [[1, 2, 3, 4]], [0, 0, 0, 1])
    assert percentile_interval(resampled_scores([one_positive], resamples=200, seed=0)[0]) is None


def test_items_survive_json_exactly() -> None:
    random = np.random.default_rng(5)
    gold, values = correlated(random, 50, 1.0)
    labels = (gold > 2).astype(int)
    for items in (
        mean_items("test, de", "queries", random.random(9), ["q"]),
        ranked_items("test", SPEARMAN, [values], gold),
        ranked_items("test", PRECISION, [values, -values, values], labels),
    ):
        again = Items.from_dict(json.loads(json.dumps(items.to_dict())))
        assert (again.key, again.unit, again.part, len(again)) == (items.key, items.unit, items.part, len(items))
        assert again.score == items.score
    assert len(items.values_KN) == 2  # the third way orders like the first


def test_damaged_items_are_refused() -> None:
    good = ranked_items("test", SPEARMAN, [[1, 2, 3]], [1, 3, 2]).to_dict()
    for change in ({"gold": None}, {"values": "AAAA"}, {"values": "?"}, {"statistic": "kendall"}, {"ways": 2}):
        with pytest.raises(ValueError):
            Items.from_dict({**good, **change})
