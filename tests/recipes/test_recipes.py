"""Recipes: the paper's numbers, and how they are replaced."""

from __future__ import annotations

import json

import pytest

from selfembed.errors import InputError
from selfembed.model.embedder import EmbedderConfig
from selfembed.objectives.bag_of_tokens import BagOfTokens
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.model_derived import ModelDerived
from selfembed.recipes import choose_stages, find_recipe, override


def test_numbers_of_the_paper():
    recipe = find_recipe("text2token")
    first, second = recipe.stages.values()
    assert list(recipe.stages) == ["data_driven", "model_derived"]
    assert (first.steps, second.steps) == (500, 200)
    for stage in (first, second):
        assert (stage.batch_size, stage.max_length, stage.learning_rate) == (64, 128, 3e-5)
    assert isinstance(first.objective, DataDriven) and isinstance(second.objective, ModelDerived)
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.targets) == (
        16,
        32,
        0.05,
        ("q_proj", "v_proj"),
    )
    assert recipe.embedder.template == 'This sentence: "{text}" means in one word: "'
    assert isinstance(find_recipe("bag-of-tokens").stages["bag_of_tokens"].objective, BagOfTokens)


@pytest.mark.parametrize("path", ["stages.data_driven.steps", "data_driven.steps"])
def test_dotted_path_sets_one_place(path):
    recipe = find_recipe("text2token")
    changed = override(recipe, {path: 7})
    assert changed.stages["data_driven"].steps == 7 and changed.stages["model_derived"].steps == 200
    assert recipe.stages["data_driven"].steps == 500


def test_bare_name_sets_every_place():
    changed = override(find_recipe("text2token"), {"steps": "7", "temperature": "1e-2", "r": 4, "pooling": "mean"})
    assert [stage.steps for stage in changed.stages.values()] == [7, 7]
    assert [stage.objective.temperature for stage in changed.stages.values()] == [0.01, 0.01]
    assert changed.lora.r == 4 and changed.embedder.pooling == "mean"


def test_values_as_a_command_line_gives_them():
    changed = override(
        find_recipe("text2token"),
        {
            "gradient_checkpointing": "True",
            "micro_batch_size": "16",
            "batch_size": "64.0",
            "lora.targets": "q_proj, k_proj",
            "pos": "none",
            "top_k": "20",
            "data_driven.schedule": "cosine",
            "prompt": "about {text}",
            "embed_length": 256.0,
        },
    )
    first, second = changed.stages.values()
    assert first.gradient_checkpointing is True and first.micro_batch_size == 16 and first.accumulation == 4
    assert (first.batch_size, type(first.batch_size)) == (64, int)
    assert changed.lora.targets == ("q_proj", "k_proj") and first.objective.pos is None
    assert second.objective.top_k == 20 and (first.schedule, second.schedule) == ("cosine", "linear")
    assert changed.embedder.template == "about {text}" and changed.embed_length == 256
    again = override(changed, {"top_k": None, "pos": ("NOUN",), "prompt": "none", "gradient_checkpointing": False})
    assert again.stages["model_derived"].objective.top_k is None
    assert again.stages["data_driven"].objective.pos == ("NOUN",)
    assert again.embedder.prompt is None and again.stages["data_driven"].gradient_checkpointing is False


@pytest.mark.parametrize("path", ["step", "data_driven.step", "objective.r", "", "stages", "stages.data_driven"])
def test_unknown_setting(path):
    with pytest.raises(InputError, match="expected one of recipe text2token, of adapter, alpha, attention"):
        override(find_recipe("text2token"), {path: 1})
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        override(find_recipe("text2token"), {"data_driven.learning_rat": 1})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", "many"),
        ("steps", 1.5),
        ("steps", None),
        ("steps", "inf"),
        ("steps", "nan"),
        ("learning_rate", "fast"),
        ("learning_rate", [1]),
        ("gradient_checkpointing", "maybe"),
        ("gradient_checkpointing", 1),
        ("pooling", "cls"),
        ("pooling", ["last"]),
        ("form", "round"),
        ("lora.targets", 3),
    ],
)
def test_wrong_type(path, value):
    with pytest.raises(InputError, match=f"setting {path}=.*expected"):
        override(find_recipe("text2token"), {path: value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("max_length", 0),
        ("micro_batch_size", 7),
        ("micro_batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", "nan"),
        ("warmup", 1.5),
        ("weight_decay", -1),
        ("max_grad_norm", "nan"),
        ("statistics_texts", 0),
        ("embed_length", 0),
        ("calibration_pairs", 7),
        ("model_derived.temperature", 0),
    ],
)
def test_value_out_of_range(path, value):
    with pytest.raises(InputError, match=path.rpartition(".")[2]):
        override(find_recipe("text2token"), {path: value})


def test_stages_by_name():
    recipe = find_recipe("text2token")
    assert list(choose_stages(recipe, ["model_derived", "data_driven"]).stages) == ["model_derived", "data_driven"]
    assert list(choose_stages(recipe, ["model_derived"]).stages) == ["model_derived"]
    with pytest.raises(InputError, match="stage 'third': expected one of data_driven, model_derived of recipe text2t"):
        choose_stages(recipe, ["third"])
    with pytest.raises(InputError, match="no stage left"):
        choose_stages(recipe, [])
    with pytest.raises(InputError, match="expected one of selfembed, .*text2token, text2token-small, bag-of-tokens"):
        find_recipe("text2tokens")


def test_plain_values():
    plain = find_recipe("text2token").to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["stages"]["data_driven"]["objective"]["kind"] == "DataDriven"
    assert EmbedderConfig(**plain["embedder"]) == find_recipe("text2token").embedder
    assert plain["embedder"].keys() == find_recipe("llm2comp").to_dict()["embedder"].keys()


def test_small_recipe_is_the_papers_with_smaller_numbers():
    small, paper = find_recipe("text2token-small"), find_recipe("text2token")
    assert list(small.stages) == list(paper.stages)
    assert (small.embedder, small.lora) == (paper.embedder, paper.lora)
    assert all(stage.texts < paper.stages[name].texts / 10 for name, stage in small.stages.items())
