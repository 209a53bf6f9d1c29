"""Mixtures: what is refused, and a stage of one from the command to the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from materials import material_of
from runs import PROMPT, SETTINGS, add_random_adapter, short_train, weights
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed.data.corpus import Corpus
from selfembed.errors import InputError
from selfembed.explanation.report.build import build_report
from selfembed.losses.contrastive import info_nce
from selfembed.model.embedder import EmbedderConfig
from selfembed.objectives import OBJECTIVES, Mixture, recorded_objective
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.objectives.objective import Budget, Objective, Prepared
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes import Recipe, Stage, override
from selfembed.targets.tagger import load_tagger
from selfembed.training.run import train


def test_it_is_what_its_parts_need():
    mixture = Mixture({"data_driven": 1, "two_views": 0.2})
    assert mixture.whole_batch and mixture.attention_dropout == 0.2 and mixture.needs_tagger
    assert mixture.forwards == 7.0, "the token target reads one of the two views"
    assert Mixture({"masked_next_token": 1, "two_views": 0.2}).forwards == 9.5
    assert mixture.display_name == "1 DataDriven + 0.2 TwoViews"
    assert ["text2token" in mixture.citations[0], "simcse" in mixture.citations[1]] == [True, True]
    plain = Mixture({"data_driven": 1, "bag_of_tokens": 1})
    assert not plain.whole_batch and plain.attention_dropout == 0.0 and not plain.trains_memory


@pytest.mark.parametrize(
    ("weights", "parts", "message"),
    [
        ({}, {}, "mixture {}: expected a weight"),
        ({"data_driven": 0}, {}, "weight of data_driven 0: expected a number above 0"),
        ({"data_driven": float("nan")}, {}, "weight of data_driven nan"),
        ({"data_driven": "much"}, {}, "weight of data_driven 'much'"),
        ({"data_drven": 1}, {}, "objective 'data_drven': expected 'data_driven', .*; did you mean 'data_driven'"),
        ({"data_driven": 1}, {"two_views": TwoViews()}, "part two_views has no weight"),
        ({"data_driven": 1, "supervised": 1}, {}, "supervised reads labelled pairs"),
    ],
)
def test_mixtures_that_cannot_be(weights, parts, message):
    with pytest.raises(InputError, match=message):
        Mixture(weights, parts)


def test_parts_are_checked(tiny_backbone_dir):
    with pytest.raises(InputError, match="compression needs memory tokens"):
        Mixture({"data_driven": 1, "compression": 1}).check(EmbedderConfig(), None)


def test_numbers_of_parts_are_replaced_by_name():
    mixture = Mixture({"data_driven": 1.0, "two_views": 0.2}, {"data_driven": DataDriven(variants="merge")})
    recipe = Recipe(name="mixed", stages={"mixed": Stage(objective=mixture, steps=3)})
    changed = override(recipe, {"weights.two_views": "0.5", "temperature": "0.1", "steps": 2}).stages["mixed"]
    assert changed.objective.weights == {"data_driven": 1.0, "two_views": 0.5}
    assert changed.objective.parts["two_views"].temperature == 0.1
    assert changed.objective.parts["data_driven"].variants == "merge" and changed.steps == 2
    recorded = json.loads(json.dumps(recipe.to_dict()))["stages"]["mixed"]["objective"]
    assert recorded["kind"] == "Mixture" and recorded["parts"]["two_views"]["kind"] == "TwoViews"
    assert recorded_objective(recorded) == mixture


def test_texts_that_one_part_cannot_use_are_left_out_of_all(tiny_backbone_dir):
    def adapt(embedder) -> None:
        add_random_adapter(embedder, dropout=0.1)

    texts = ["and or but", *SENTENCES[:5]]
    material = material_of(tiny_backbone_dir, texts, adapt=adapt, budget=Budget(steps=3, batch_size=4))
    prepared = Mixture({"data_driven": 1, "two_views": 1}).prepare(material)
    assert list(prepared.rows) == [1, 2, 3, 4, 5]
    assert prepared.notes["parts"]["data_driven"]["texts_without_target"] == 1
    assert set(prepared.loss.text_of_turn.tolist()) == {1, 2, 3, 4, 5} and len(prepared.loss.text_of_turn) == 12
    with pytest.raises(InputError, match="none of 1 texts has a key token"):
        Mixture({"two_views": 1, "data_driven": 1}).prepare(dataclasses.replace(material, texts=texts[:1]))


class HalvesLoss(torch.nn.Module):
    """InfoNCE between two columns."""

    columns = ("query", "text")

    def constants(self, features, labels):
        return None

    def of_embeddings(self, embeddings, constants):
        return info_nce(*embeddings, temperature=0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halves(Objective):
    """Pairs out of texts: the first half of the words searches for the second."""

    citation = ""
    whole_batch = True
    shares_forward = True

    def cut(self, material):
        words = [text.split() for text in material.texts]
        queries = [" ".join(half[: len(half) // 2]) for half in words]
        passages = [" ".join(half[len(half) // 2 :]) for half in words]
        return dataclasses.replace(material, texts=passages, columns={"query": queries})

    def prepare(self, material):
        return Prepared(loss=HalvesLoss())


@pytest.mark.parametrize(("micro_batch_size", "passes"), [(None, [4, 4]), (2, [2, 2, 2, 2] * 2)])
def test_a_token_target_beside_pairs_is_the_passages_and_shares_its_forward_pass(
    micro_batch_size, passes, tiny_backbone_dir, tmp_path, monkeypatch
):
    monkeypatch.setitem(OBJECTIVES, "halves", Halves)
    mixture = Mixture({"halves": 1.0, "data_driven": 0.2})
    assert mixture.forwards == 2.5 and mixture.whole_batch
    seen, sizes = [], []
    targets, forward = DataDriven.targets, SentenceTransformer.forward
    monkeypatch.setattr(DataDriven, "targets", lambda self, given: seen.append(given.texts) or targets(self, given))

    def counted(self, features, **options):
        sizes.extend([len(features["input_ids"])] * self.training)
        return forward(self, features, **options)

    monkeypatch.setattr(SentenceTransformer, "forward", counted)
    stage = Stage(objective=mixture, steps=3, batch_size=4, micro_batch_size=micro_batch_size, max_length=48)
    recipe = Recipe(name="pairs", stages={"pairs": stage})
    train(
        tiny_backbone_dir, iter(SENTENCES), recipe, out=tmp_path / "out", dtype="float32", device="cpu",
        tagger="hanta", settings={"prompt": PROMPT},
    )  # fmt: skip
    assert sizes == passes * 3
    (texts,) = seen
    assert all(any(whole.endswith(text) and whole != text for whole in SENTENCES) for text in texts)
    curve = record_of(tmp_path / "out")["stages"][0]["loss_curve"]
    assert [list(entry["parts"]) for entry in curve] == [["halves", "data_driven"]] * 3


def test_two_parts_that_cut_texts_are_refused(tiny_backbone_dir, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "halves", Halves)
    monkeypatch.setitem(OBJECTIVES, "others", Halves)
    with pytest.raises(InputError, match="halves and others both cut texts"):
        Mixture({"halves": 1, "others": 1}).cut(material_of(tiny_backbone_dir))


class Interruption(Exception):
    """What a power cut is to the library."""


ONLINE = Mixture(
    {"two_views": 0.2, "data_driven": 1.0, "model_derived": 0.5},
    {"model_derived": ModelDerived(common="online"), "two_views": TwoViews(attention_dropout=0.1)},
)
RECIPE = Recipe(name="mixed", stages={"mixed": Stage(objective=ONLINE, steps=4, micro_batch_size=2)})
FOUR = {"steps": 4, "two_views.temperature": 0.5}


def record_of(out: Path) -> dict:
    return json.loads((out / "selfembed.json").read_text())


@pytest.fixture(scope="module")
def whole_run(tiny_backbone_dir, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    short_train(tiny_backbone_dir, out, recipe=RECIPE, settings=FOUR)
    return out


def test_each_parts_loss_is_recorded(whole_run):
    (stage,) = record_of(whole_run)["stages"]
    assert len(stage["loss_curve"]) == 4 and stage["texts"] == 16
    for entry in stage["loss_curve"]:
        assert list(entry["parts"]) == list(ONLINE.weights) and all(value > 0 for value in entry["parts"].values())
        assert sum(entry["parts"].values()) == pytest.approx(entry["loss"], abs=2e-4)
    assert "| mixed | 0.2 TwoViews + 1 DataDriven + 0.5 ModelDerived |" in (whole_run / "README.md").read_text()


def test_each_parts_loss_and_the_targets_are_in_the_report(whole_run):
    html = build_report(whole_run, Corpus(iter(SENTENCES)), texts=8, tagger=load_tagger("hanta"))
    losses = html[html.index('<section id="losses">') : html.index('<section id="targets">')]
    for name in ONLINE.weights:
        assert f"mixed, of it {name}" in losses
    assert losses.count("<svg") == 4
    targets = html[html.index('<section id="targets">') : html.index('<section id="tokens">')]
    assert "No targets shown" not in targets and 'class="tokens"' in targets


def test_interrupted_run_ends_in_the_same_weights(whole_run, tiny_backbone_dir, tmp_path):
    def power_cut(task: str, done: int, total: int | None) -> None:
        if task.startswith("mixed,") and done >= 3:
            raise Interruption

    given = {"recipe": RECIPE, "settings": FOUR}
    with pytest.raises(Interruption):
        short_train(tiny_backbone_dir, tmp_path / "out", progress=power_cut, **given)
    short_train(tiny_backbone_dir, tmp_path / "out", **given)
    (stage,) = record_of(tmp_path / "out")["stages"]
    assert stage["resumed_from"] == "checkpoint-2"
    expected = weights(whole_run)
    for name, tensor in weights(tmp_path / "out").items():
        assert tensor.equal(expected[name]), name


def test_a_mixture_without_contrast_is_accumulated(tiny_backbone_dir, tmp_path):
    mixture = Mixture({"data_driven": 1.0, "bag_of_tokens": 0.5})
    recipe = Recipe(name="mixed", stages={"mixed": Stage(objective=mixture, steps=3)})
    curves = []
    for size in (None, 2):
        out = tmp_path / str(size)
        settings = {"micro_batch_size": size, "dropout": 0}
        numbers = {name: value for name, value in SETTINGS.items() if name != "temperature"}
        short_train(tiny_backbone_dir, out, recipe=recipe, settings={**numbers, **settings})
        curves.append(record_of(out)["stages"][0]["loss_curve"])
    for whole, parts in zip(*curves, strict=True):
        assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-3)
        assert whole["parts"] == pytest.approx(parts["parts"], rel=1e-3)
