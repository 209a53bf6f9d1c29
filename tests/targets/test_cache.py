"""Targets are computed once and found again, unless something that they depend on has changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from runs import plain_embedder
from tiny import SENTENCES, save_tiny

from selfembed.data.corpus import Corpus
from selfembed.targets import cache
from selfembed.targets.bag_of_tokens import BagOfTokens
from selfembed.targets.cache import TargetSource, choose_texts
from selfembed.targets.data_driven import DataDriven
from selfembed.targets.model_derived import ModelDerived
from selfembed.targets.tagger import load_tagger

OBJECTIVES = [DataDriven(), ModelDerived(common_texts=20), BagOfTokens()]


@pytest.fixture
def source(tiny_backbone_dir, tmp_path, monkeypatch) -> TargetSource:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    embedder, backbone, _ = plain_embedder(tiny_backbone_dir)
    return TargetSource(
        backbone=backbone,
        corpus=Corpus(iter(SENTENCES)),
        tagger=load_tagger("hanta"),
        statistics_texts=1000,
        embedder=embedder,
        head=backbone.head(),
    )


@pytest.fixture
def computed(monkeypatch) -> list:
    """The objectives that targets were computed of, in order."""
    found: list = []
    compute = TargetSource._compute

    def counted(self, objective, *rest):
        found.append(objective)
        return compute(self, objective, *rest)

    monkeypatch.setattr(TargetSource, "_compute", counted)
    return found


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_second_time_from_the_cache(objective, source, computed):
    first = source.targets(objective, SENTENCES[:5])
    second = source.targets(objective, SENTENCES[:5])
    assert len(computed) == 1
    for name in ("offsets_N1", "ids_S", "weights_S"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    source.targets(objective, SENTENCES[:6])
    source.targets(objective, SENTENCES[:5][::-1])
    assert len(computed) == 3


@pytest.mark.parametrize(
    ("objective", "change"),
    [
        (DataDriven(), {"form": "literal"}),
        (DataDriven(), {"variants": "merge"}),
        (ModelDerived(common_texts=20), {"temperature": 0.5}),
        (BagOfTokens(), {"leading_space": False}),
    ],
)
def test_every_option_counts(objective, change, source, computed):
    source.targets(objective, SENTENCES[:5])
    source.targets(dataclasses.replace(objective, **change), SENTENCES[:5])
    assert len(computed) == 2


def test_corpus_backbone_and_reading_count(source, computed, tmp_path):
    texts, driven, derived = SENTENCES[:5], OBJECTIVES[0], OBJECTIVES[1]
    source.targets(driven, texts)
    source.targets(derived, texts)
    other_corpus = dataclasses.replace(source, corpus=Corpus(iter(SENTENCES[:30])))
    other_corpus.targets(driven, texts)
    other_corpus.targets(derived, texts)
    dataclasses.replace(source, statistics_texts=10).targets(driven, texts)
    mean, backbone, _ = plain_embedder(save_tiny("llama", tmp_path / "other", seed=1), pooling="mean")
    dataclasses.replace(source, backbone=backbone).targets(driven, texts)
    dataclasses.replace(source, embedder=mean).targets(derived, texts)
    both, _, _ = plain_embedder(source.backbone.folder, attention="bidirectional")
    dataclasses.replace(source, embedder=both).targets(derived, texts)
    assert len(computed) == 8


def test_statistics_are_shared_between_forms(source, monkeypatch):
    counts = []
    collect = cache.TokenStatistics.collect

    def counted(*arguments, **options):
        counts.append(1)
        return collect(*arguments, **options)

    monkeypatch.setattr(cache.TokenStatistics, "collect", counted)
    for form in ("proportional", "softmax_support"):
        source.targets(DataDriven(form=form), SENTENCES[:5])
    assert len(counts) == 1


def test_texts_are_chosen_without_repetition_until_the_corpus_ends():
    texts = Corpus(iter(SENTENCES)).texts()
    chosen = [choose_texts(texts, 25, skip=skip, seed=3)["text"] for skip in (0, 25, 50)]
    assert len({text for part in chosen[:2] for text in part}) == 50
    assert list(chosen[2][:10]) and set(chosen[2][10:]) <= set(chosen[0])
    assert list(choose_texts(texts, 25, seed=3)["text"]) == list(chosen[0])
    assert list(choose_texts(texts, 25, seed=4)["text"]) != list(chosen[0])
    assert len(choose_texts(texts, 1000, seed=3)) == len(SENTENCES)
