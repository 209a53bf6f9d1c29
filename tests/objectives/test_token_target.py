"""Token targets are computed once and found again, unless something that they depend on has changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from materials import material_of
from runs import plain_embedder
from tiny import SENTENCES, save_tiny

from selfembed.data.corpus import Corpus
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.objectives.objective import Material
from selfembed.targets import cache
from selfembed.targets.cache import choose_texts

OBJECTIVES = [DataDriven(), ModelDerived(common_texts=20), BagOfTokens()]


@pytest.fixture
def material(tiny_backbone_dir, tmp_path, monkeypatch) -> Material:
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    return material_of(tiny_backbone_dir, SENTENCES[:5])


def given(material: Material, **changes) -> Material:
    return dataclasses.replace(material, **changes)


@pytest.fixture
def computed(monkeypatch) -> list:
    """The objectives that targets were computed of, in order."""
    found: list = []
    for kind in (DataDriven, ModelDerived, BagOfTokens):

        def counted(self, material, compute=kind.compute):
            found.append(self)
            return compute(self, material)

        monkeypatch.setattr(kind, "compute", counted)
    return found


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.title)
def test_second_time_from_the_cache(objective, material, computed):
    first = objective.targets(material)
    second = objective.targets(material)
    assert len(computed) == 1
    for name in ("offsets_N1", "ids_S", "weights_S"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    objective.targets(given(material, texts=SENTENCES[:6]))
    objective.targets(given(material, texts=SENTENCES[:5][::-1]))
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
def test_every_option_counts(objective, change, material, computed):
    objective.targets(material)
    dataclasses.replace(objective, **change).targets(material)
    assert len(computed) == 2


def test_corpus_backbone_and_reading_count(material, computed, tmp_path):
    driven, derived, _ = OBJECTIVES
    driven.targets(material)
    derived.targets(material)
    other_corpus = given(material, corpus=Corpus(iter(SENTENCES[:30])))
    driven.targets(other_corpus)
    derived.targets(other_corpus)
    driven.targets(given(material, statistics_texts=10))
    mean, backbone, _ = plain_embedder(save_tiny("llama", tmp_path / "other", seed=1), pooling="mean")
    driven.targets(given(material, backbone=backbone))
    derived.targets(given(material, make_embedder=lambda: mean))
    both, _, _ = plain_embedder(material.backbone.folder, attention="bidirectional")
    derived.targets(given(material, make_embedder=lambda: both))
    assert len(computed) == 8


def test_weights_under_the_adapter_count_where_the_model_is_read(material, computed, tmp_path):
    driven, derived, _ = OBJECTIVES
    merged, other, _ = plain_embedder(save_tiny("llama", tmp_path / "merged", seed=1))
    changed = given(material, make_embedder=lambda: merged, weights=other.fingerprint)
    first, second = derived.targets(material), derived.targets(changed)
    assert len(computed) == 2
    assert not np.array_equal(first.ids_S, second.ids_S)
    driven.targets(material)
    driven.targets(changed)
    assert len(computed) == 3


def test_statistics_are_shared_between_forms(material, monkeypatch):
    counts = []
    collect = cache.TokenStatistics.collect

    def counted(*arguments, **options):
        counts.append(1)
        return collect(*arguments, **options)

    monkeypatch.setattr(cache.TokenStatistics, "collect", counted)
    for form in ("proportional", "softmax_support"):
        DataDriven(form=form).targets(material)
    assert len(counts) == 1


def test_targets_to_look_at_spare_the_pass_over_other_texts(material):
    class NoTexts:
        fingerprint = "other"

    looked = given(material, look=True, corpus=NoTexts())
    assert len(ModelDerived().targets(looked)) == 5


def test_texts_without_a_target_are_left_out(material):
    texts = ["and or but", *SENTENCES[:3], "then he went"]
    prepared = DataDriven().prepare(given(material, texts=texts))
    assert list(prepared.rows) == [1, 2, 3] and prepared.notes["texts_without_target"] == 2
    assert len(prepared.loss.targets) == 5, "a text's number is that of its target"


def test_texts_are_chosen_without_repetition_until_the_corpus_ends():
    texts = Corpus(iter(SENTENCES)).texts()
    chosen = [choose_texts(texts, 25, skip=skip, seed=3)["text"] for skip in (0, 25, 50)]
    assert len({text for part in chosen[:2] for text in part}) == 50
    assert list(chosen[2][:10]) and set(chosen[2][10:]) <= set(chosen[0])
    assert list(choose_texts(texts, 25, seed=3)["text"]) == list(chosen[0])
    assert list(choose_texts(texts, 25, seed=4)["text"]) != list(chosen[0])
    assert len(choose_texts(texts, 1000, seed=3)) == len(SENTENCES)
