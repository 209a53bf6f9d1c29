"""Looks at the self-retrieval during training: which step is kept, when it stops, and what an interruption changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from runs import weights
from tiny import SENTENCES, save_tiny, save_tiny_embedder

from selfembed import Corpus, InputError
from selfembed.calibration.choice import Choice
from selfembed.ground.files import write_json
from selfembed.model.adapter import adapter_parameters
from selfembed.recipes import choose_stages, find_recipe, override
from selfembed.terminal.train import print_judgement, print_plan
from selfembed.training import run, stage
from selfembed.training.estimate import estimate
from selfembed.training.judgement import Judge
from selfembed.training.plan import make_plan
from selfembed.training.run import run_plan

TEXTS = [f"{one} {other}" for one, other in zip(SENTENCES[:30], SENTENCES[30:60], strict=True)]
CORPUS = Dataset.from_dict({"text": TEXTS, "title": [f"Part {number}" for number in range(30)]})
SETTINGS = {"steps": 8, "batch_size": 4, "max_length": 32, "calibration_pairs": 12, "learning_rate": 1e-2}
MIDDLE = {2: 0.1, 4: 0.9, 6: 0.3, 8: 0.2}
FALLING = {2: 0.4, 4: 0.3, 6: 0.2, 8: 0.9}


class Interruption(BaseException):
    """The power fails."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny("llama", tmp_path_factory.mktemp("looks") / "model")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save_tiny_embedder("bert", tmp_path_factory.mktemp("looks") / "encoder")


@pytest.fixture
def planted(monkeypatch):
    """Gives `plant(scores)`: looks find these, by step, and what is trained is shipped. Returns adapters by step."""
    read = Judge.look

    def plant(scores, *, fails_at=None):
        adapters = {}

        def look(judge, embedder, step):
            if step == fails_at:
                raise Interruption
            read(judge, embedder, step)
            adapters[step] = [parameter.detach().clone() for parameter in adapter_parameters(embedder)]
            return scores[step]

        monkeypatch.setattr(Judge, "look", look)
        monkeypatch.setattr(Choice, "score", property(lambda choice: 1.0))
        return adapters

    return plant


def plan_of(model, recipe="selfembed", pairs=None, dev=None, **settings):
    given = {**SETTINGS, **settings}
    options = {"pairs": pairs, "dev": dev, "dtype": "float32", "saved_dtype": "float32", "device": "cpu"}
    return make_plan(model, Corpus(CORPUS), recipe, settings=given, **options)


def record_of(out):
    return json.loads((out / "selfembed.json").read_text())


def test_a_look_after_every_equal_share_of_the_steps():
    recipe = find_recipe("selfembed")
    assert recipe.looks == 1 and recipe.look_steps == [100]
    assert override(recipe, {"steps": 10, "looks": "4"}).look_steps == [3, 5, 8, 10]
    assert override(recipe, {"steps": 3, "looks": 20}).look_steps == [1, 2, 3], "of fewer steps every one"
    with pytest.raises(InputError, match="looks 0"):
        override(recipe, {"looks": 0})


def test_the_best_look_is_shipped_and_looking_changes_nothing(model, tmp_path, planted, capsys):
    adapters = planted(MIDDLE)
    found = []
    plan = plan_of(model, looks=4, patience=9)
    finished = run_plan(plan, tmp_path / "out", after_stage=lambda record, embedder: found.append((record, embedder)))
    ((noted, trained),) = found
    for name, kept in zip((4, 8), (True, False), strict=True):
        same = zip(adapters[name], adapter_parameters(trained), strict=True)
        assert all(torch.equal(one, other) for one, other in same) == kept
    np.testing.assert_allclose(finished.encode(TEXTS[:3]), trained.encode(TEXTS[:3]), atol=1e-4)
    record = record_of(tmp_path / "out")
    curve = [{"step": step, "score": score} for step, score in MIDDLE.items()]
    looks = {"steps": 8, "best_step": 4, "stopped_early": False, "curve": curve}
    assert record["self_retrieval"]["looks"] == looks and "looks" not in noted
    print_judgement(record["self_retrieval"])
    assert "trained is the best of 4 looks, at step 4 of 8\n" in capsys.readouterr().out

    last = plan_of(model)
    run_plan(last, tmp_path / "last", after_stage=lambda record, embedder: found.append((record, embedder)))
    for one, other in zip(adapters[8], adapter_parameters(found[1][1]), strict=True):
        assert torch.equal(one, other), "the last step is what it is without looks"
    assert found[1][0]["loss_curve"] == noted["loss_curve"]
    without = record_of(tmp_path / "last")["self_retrieval"]
    assert set(without) == {"shipped", "unseen", "raw", "trained"}
    print_judgement(without)
    assert "looks" not in capsys.readouterr().out


def test_without_gain_the_stage_ends_early(encoder, tmp_path, planted, capsys):
    adapters = planted(FALLING)
    run_plan(plan_of(encoder, "adapt", looks=4), tmp_path / "out")
    record = record_of(tmp_path / "out")
    looks = record["self_retrieval"]["looks"]
    assert list(adapters) == [2, 4, 6] and len(record["stages"][0]["loss_curve"]) == 6
    assert (looks["best_step"], looks["stopped_early"], len(looks["curve"])) == (2, True, 3)
    print_judgement(record["self_retrieval"], adapted=True)
    said = "trained is the best of 3 looks, at step 2 of 8; training stopped at step 6, as nothing better came\n"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("scores", [MIDDLE, FALLING], ids=["middle", "stopped"])
@pytest.mark.parametrize("at", ["step 1", "look 4", "step 5", "look 6", "record", "export"])
def test_interrupted_it_keeps_the_same_step(at, scores, encoder, tmp_path, planted, monkeypatch):
    plan = plan_of(encoder, "adapt", looks=4)
    planted(scores)
    run_plan(plan, tmp_path / "whole")

    def power_cut(task, done, total):
        if task.startswith("text_pairs,") and at == f"step {done}":
            raise Interruption

    def cut_before_record(file, value):
        if file.name == "record.json":
            raise Interruption
        write_json(file, value)

    def fails(*args, **options):
        raise Interruption

    with monkeypatch.context() as patch, pytest.raises(Interruption):
        planted(scores, fails_at=int(at[5:]) if at.startswith("look") else None)
        if at == "record":
            patch.setattr(stage, "write_json", cut_before_record)
        if at == "export":
            patch.setattr(run, "export_adapted", fails)
        run_plan(plan, tmp_path / "out", progress=power_cut)
    adapters = planted(scores)
    torch.manual_seed(12345)
    run_plan(plan, tmp_path / "out")
    if at in ("step 5", "look 6"):
        assert min(adapters) == 6, "what was looked at before the checkpoint counts"
    whole, resumed = record_of(tmp_path / "whole"), record_of(tmp_path / "out")
    assert resumed["self_retrieval"] == whole["self_retrieval"]
    assert resumed["stages"][0]["loss_curve"] == whole["stages"][0]["loss_curve"]
    expected = weights(tmp_path / "whole")
    for name, tensor in weights(tmp_path / "out").items():
        assert torch.equal(tensor, expected[name]), name


def test_a_look_chooses_the_map_that_would_be_shipped(model, tmp_path, monkeypatch):
    read, names = Judge.vectors, []

    def vectors(judge, embedder, name):
        names.append(name)
        return read(judge, embedder, name)

    monkeypatch.setattr(Judge, "vectors", vectors)
    run_plan(plan_of(model, calibration="after", looks=2, steps=4), tmp_path / "out")
    judged = record_of(tmp_path / "out")["self_retrieval"]
    tried, curve = judged["trained"]["self_retrieval_ndcg@10"], judged["looks"]["curve"]
    assert len(tried) > 3 and [entry["step"] for entry in curve] == [2, 4]
    assert tried[judged["trained"]["chosen"]] == round(max(entry["score"] for entry in curve), 4)
    assert sorted(names) == ["raw", "trained", "trained"], "the best look is not read again"


def test_of_several_stages_the_last_is_looked_at(encoder, tmp_path, planted):
    adapters = planted({3: 0.5, 6: 0.6})
    plan = plan_of(encoder, "adapt -> adapt", looks=2, **{"text_pairs_2.adapter": "merge", "text_pairs_2.steps": 6})
    run_plan(plan, tmp_path / "out")
    record = record_of(tmp_path / "out")
    assert list(adapters) == [3, 6] and record["self_retrieval"]["looks"]["steps"] == 6
    assert [len(one["loss_curve"]) for one in record["stages"]] == [8, 6]


def test_stopped_where_negatives_would_be_mined_it_stays_stopped(model, tmp_path, planted):
    planted(FALLING)
    recipe = choose_stages(find_recipe("llm2comp-small"), ["supervised"])
    rows = {"query": SENTENCES[:30], "positive": TEXTS, "negative": TEXTS[1:] + TEXTS[:1]}
    settings = {"refresh_every": 4, "looks": 4, "patience": 1, "memory_tokens": 2, "micro_batch_size": 4}
    run_plan(plan_of(model, recipe, Dataset.from_dict(rows), **settings), tmp_path / "out")
    (supervised,) = record_of(tmp_path / "out")["stages"]
    assert len(supervised["loss_curve"]) == 4 and "rows_with_mined_negatives" not in supervised
    with pytest.raises(InputError, match="looks 2: the development pairs choose the best step of stage supervised"):
        plan_of(model, recipe, Dataset.from_dict(rows), Dataset.from_dict(rows), micro_batch_size=4, looks=2)
    with pytest.raises(InputError, match="looks 2: recipe text2token has no pairs .* use `calibration_pairs=300`, or"):
        plan_of(model, "text2token", looks=2, calibration_pairs=0)


def test_the_estimate_counts_the_looks(encoder, monkeypatch, capsys):
    monkeypatch.setattr("selfembed.training.estimate.forward_rate", lambda embedder, texts: 100.0)
    one, four = (estimate(plan_of(encoder, "adapt", looks=looks)) for looks in (1, 4))
    assert one.judging_seconds > 0 and four.judging_seconds == pytest.approx(one.judging_seconds * 5 / 2)
    assert four.seconds - one.seconds == pytest.approx(four.judging_seconds - one.judging_seconds)
    assert estimate(plan_of(encoder, "adapt", calibration_pairs=0)).judging_seconds == 0
    print_plan(plan_of(encoder, "adapt", looks=4))
    assert "self-retrieval: 12 pairs, read before training and 4 times since" in capsys.readouterr().out
