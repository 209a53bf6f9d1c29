"""Targets are computed once and found again, unless something that they depend on has changed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from runs import add_random_adapter, plain_embedder, short_train
from tiny import BOS, BOS_ID, EOS, EOS_ID, PAD, PAD_ID, SENTENCES, save_tiny, tiny_tokenizer
from tokenizers.normalizers import Lowercase

from selfembed.backbone import LMHead, load_backbone
from selfembed.corpus import Corpus
from selfembed.targets import store
from selfembed.targets.bag_of_tokens import BagOfTokens
from selfembed.targets.data_driven import DataDriven
from selfembed.targets.model_derived import ModelDerived
from selfembed.targets.store import TargetSource, choose_texts
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
    targets = TargetSource.targets

    def noted(self, objective, *rest):
        result = targets(self, objective, *rest)
        if isinstance(objective, ModelDerived):
            found.setdefault(run, []).append(result)
        return result

    monkeypatch.setattr(TargetSource, "targets", noted)
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


def test_all_that_makes_model_derived_targets_counts_and_the_adapter_does_not(source, computed):
    objective, texts = OBJECTIVES[1], SENTENCES[:5]
    source.targets(objective, texts)
    add_random_adapter(source.embedder)
    source.targets(objective, texts)
    assert len(computed) == 1, "adapters are off while targets are made"
    weights = {name: buffer.clone() for name, buffer in source.head.named_buffers()}
    moved = dict(source.embedder.named_parameters())
    (weight,) = [moved[name] for name in moved if name.endswith("layers.1.mlp.up_proj.weight")]

    def change_weight():
        weight.data[0, 0] += 1e-3

    def change_tokenizer():
        source.embedder.tokenizer.split_special_tokens = False

    changes = [
        lambda: {"head": LMHead(weights, scale=0.5)},
        lambda: {"head": LMHead(weights, soft_cap=5.0)},
        lambda: {"head": LMHead({"weight": weights["weight"] * 1.001})},
        lambda: {"head": LMHead({**weights, "bias": torch.ones(640)})},
        change_weight,
        change_tokenizer,
        lambda: setattr(source.embedder, "max_seq_length", 40),
        lambda: {"embedder": source.embedder.bfloat16()},
    ]
    for number, change in enumerate(changes, 2):
        changed = dataclasses.replace(source, **(change() or {}))
        changed.targets(objective, texts)
        assert len(computed) == number, number
        changed.targets(objective, texts)
        assert len(computed) == number, "found again"


@pytest.mark.parametrize("objective", [DataDriven(), BagOfTokens()], ids=["DataDriven", "BagOfTokens"])
def test_the_backbones_tokenizer_counts(objective, source, computed):
    source.targets(objective, SENTENCES[:5])
    source.backbone.tokenizer.backend_tokenizer.normalizer = Lowercase()
    source.targets(objective, SENTENCES[:5])
    assert len(computed) == 2


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("objective", [DataDriven(pos=None), BagOfTokens()], ids=["DataDriven", "BagOfTokens"])
def test_special_tokens_spelled_out_in_a_text_are_text(objective, kind, source, tmp_path):
    raw = save_tiny("llama", tmp_path / "raw", tokenizer=tiny_tokenizer(kind))
    texts = [f"{text} {EOS}" for text in SENTENCES[:5]] + [f"{BOS}{PAD}"]
    source = dataclasses.replace(source, backbone=load_backbone(raw), corpus=Corpus(iter([*texts, *SENTENCES])))
    targets = source.targets(objective, texts)
    assert not {BOS_ID, EOS_ID, PAD_ID} & set(targets.ids_S.tolist())
    bars = set(source.backbone.tokenizer("|", add_special_tokens=False)["input_ids"])
    assert all(bars & set(targets.row(i)[0].tolist()) for i in range(6)), "the name's pieces count like any text's"
    if isinstance(objective, DataDriven):
        assert not source.statistics(objective).count_V[[BOS_ID, EOS_ID, PAD_ID]].any()


def test_statistics_are_shared_between_forms(source, monkeypatch):
    counts = []
    collect = store.TokenStatistics.collect

    def counted(*arguments, **options):
        counts.append(1)
        return collect(*arguments, **options)

    monkeypatch.setattr(store.TokenStatistics, "collect", counted)
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
