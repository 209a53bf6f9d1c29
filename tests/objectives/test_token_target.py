"""Token targets are computed once and found again, unless something that they depend on has changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from materials import material_of
from runs import add_random_adapter, plain_embedder, short_train
from tiny import BOS, BOS_ID, EOS, EOS_ID, PAD, PAD_ID, SENTENCES, save_tiny, tiny_tokenizer
from tokenizers.normalizers import Lowercase

from selfembed.data.corpus import Corpus
from selfembed.data.sampling import choose_texts
from selfembed.encoding.known import KnownVectors
from selfembed.model.backbone import LMHead, load_backbone
from selfembed.model.prompt import prompt_ids
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.objectives.objective import Material
from selfembed.targets import cache

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


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.display_name)
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
        (BagOfTokens(), {"whole_text": True}),
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
    merged, _, _ = plain_embedder(save_tiny("llama", tmp_path / "merged", seed=1))
    changed = given(material, make_embedder=lambda: merged)
    first, second = derived.targets(material), derived.targets(changed)
    assert len(computed) == 2
    assert not np.array_equal(first.ids_S, second.ids_S)
    driven.targets(material)
    driven.targets(changed)
    assert len(computed) == 3


def total_variation(one, other) -> float:
    """Mean over the texts."""
    found = []
    for i in range(len(one)):
        dense_2V = np.zeros((2, one.vocab_size))
        for side, targets in enumerate((one, other)):
            ids, weights = targets.row(i)
            dense_2V[side, ids] = weights
        found.append(np.abs(dense_2V[0] - dense_2V[1]).sum() / 2)
    return float(np.mean(found))


def test_a_stage_after_a_merge_and_one_that_goes_on_get_their_own_targets(
    tiny_backbone_dir, tmp_path, monkeypatch, computed
):
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path / "cache"))
    found: dict[str, list] = {}
    targets = ModelDerived.targets

    def noted(self, material):
        result = targets(self, material)
        found.setdefault(run, []).append(result)
        return result

    monkeypatch.setattr(ModelDerived, "targets", noted)
    for run, adapter, seed in [
        ("merged", "merge", 0),
        ("continued", "continue", 0),
        ("merged again", "merge", 0),
        ("continued again", "continue", 0),
        ("other merged", "merge", 1),
    ]:
        settings = {"model_derived.adapter": adapter, "common_texts": 20, "learning_rate": 5e-2, "temperature": 0.1}
        short_train(tiny_backbone_dir, tmp_path / run, settings=settings, seed=seed)
    derived = [objective for objective in computed if isinstance(objective, ModelDerived)]
    assert len(derived) == 3, "the runs that came again must have found theirs"
    merged, continued = found["merged"][0], found["continued"][0]
    assert total_variation(merged, continued) > 0.1
    assert total_variation(merged, found["merged again"][0]) == 0
    assert total_variation(continued, found["continued again"][0]) == 0
    assert total_variation(merged, found["other merged"][0]) > 0.05


def test_all_that_makes_model_derived_targets_counts_and_the_adapter_does_not(material, computed):
    objective, embedder, head = OBJECTIVES[1], material.embedder, material.head
    objective.targets(material)
    add_random_adapter(embedder)
    objective.targets(material)
    assert len(computed) == 1, "adapters are off while targets are made"
    weights = {name: buffer.clone() for name, buffer in head.named_buffers()}
    moved = dict(embedder.named_parameters())
    (weight,) = [moved[name] for name in moved if name.endswith("layers.1.mlp.up_proj.weight")]

    def change_weight():
        weight.data[0, 0] += 1e-3

    def change_tokenizer():
        embedder.tokenizer.split_special_tokens = False

    changes = [
        lambda: LMHead(weights, scale=0.5),
        lambda: LMHead(weights, soft_cap=5.0),
        lambda: LMHead({"weight": weights["weight"] * 1.001}),
        lambda: LMHead({**weights, "bias": torch.ones(640)}),
        change_weight,
        change_tokenizer,
        lambda: setattr(embedder, "max_seq_length", 40),
        lambda: embedder.bfloat16() and None,
    ]
    for number, change in enumerate(changes, 2):
        other = change()
        changed = given(material, make_head=lambda other=other: other) if other is not None else given(material)
        objective.targets(changed)
        assert len(computed) == number, number
        objective.targets(changed)
        assert len(computed) == number, "found again"


@pytest.mark.parametrize("objective", [DataDriven(), BagOfTokens()], ids=["DataDriven", "BagOfTokens"])
def test_the_backbones_tokenizer_counts(objective, material, computed):
    objective.targets(material)
    material.backbone.tokenizer.backend_tokenizer.normalizer = Lowercase()
    objective.targets(material)
    assert len(computed) == 2


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("objective", [DataDriven(pos=None), BagOfTokens()], ids=["DataDriven", "BagOfTokens"])
def test_special_tokens_spelled_out_in_a_text_are_text(objective, kind, material, tmp_path):
    raw = load_backbone(save_tiny("llama", tmp_path / "raw", tokenizer=tiny_tokenizer(kind)))
    texts = [f"{text} {EOS}" for text in SENTENCES[:5]] + [f"{BOS}{PAD}"]
    spelled = given(material, backbone=raw, texts=texts, corpus=Corpus(iter([*texts, *SENTENCES])))
    targets = objective.targets(spelled)
    assert not {BOS_ID, EOS_ID, PAD_ID} & set(targets.ids_S.tolist())
    bars = set(raw.tokenizer("|", add_special_tokens=False)["input_ids"])
    assert all(bars & set(targets.row(i)[0].tolist()) for i in range(6)), "the name's pieces count like any text's"
    if isinstance(objective, DataDriven):
        statistics = cache.stored_statistics(raw, spelled.corpus, objective, most=1000)
        assert not statistics.count_V[[BOS_ID, EOS_ID, PAD_ID]].any()


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


def test_targets_to_look_at_are_made_of_vectors_that_are_known(material):
    texts = list(material.texts)
    known = KnownVectors(texts, material.embedder.encode(texts))
    expected, found = (
        ModelDerived().targets(given(material, look=True, make_embedder=lambda other=other: other))
        for other in (material.embedder, known)
    )
    np.testing.assert_array_equal(found.ids_S, expected.ids_S)
    np.testing.assert_allclose(found.weights_S, expected.weights_S, rtol=1e-4)


def test_texts_without_a_target_are_left_out(material):
    texts = ["and or but", *SENTENCES[:3], "then he went"]
    prepared = DataDriven().prepare(given(material, texts=texts))
    assert list(prepared.rows) == [1, 2, 3] and prepared.notes["texts_without_target"] == 2
    assert len(prepared.loss.targets) == 5, "a text's number is that of its target"


@pytest.mark.parametrize("kind", [DataDriven, BagOfTokens])
def test_targets_hold_what_is_read_and_nothing_behind_it(kind, material):
    texts = [" ".join(SENTENCES[i : i + 4]) for i in range(5)]
    prompt = len(prompt_ids(material.backbone.tokenizer, material.reading.template))
    material = given(material, texts=texts, max_length=prompt + 8)
    read, whole = kind().targets(material), kind(whole_text=True).targets(material)
    beginnings = kind(whole_text=True).targets(given(material, texts=material.read_texts()))
    assert len(read) == len(whole) == 5 and read.support_N.sum() < 0.7 * whole.support_N.sum()
    np.testing.assert_array_equal(read.ids_S, beginnings.ids_S)
    np.testing.assert_array_equal(read.weights_S, beginnings.weights_S)
    roomy = kind().targets(given(material, max_length=500))
    np.testing.assert_array_equal(roomy.ids_S, whole.ids_S)


def test_texts_are_chosen_without_repetition_until_the_corpus_ends():
    texts = Corpus(iter(SENTENCES)).texts()
    chosen = [choose_texts(texts, 25, skip=skip, seed=3)["text"] for skip in (0, 25, 50)]
    assert len({text for part in chosen[:2] for text in part}) == 50
    assert list(chosen[2][:10]) and set(chosen[2][10:]) <= set(chosen[0])
    assert list(choose_texts(texts, 25, seed=3)["text"]) == list(chosen[0])
    assert list(choose_texts(texts, 25, seed=4)["text"]) != list(chosen[0])
    assert len(choose_texts(texts, 1000, seed=3)) == len(SENTENCES)
