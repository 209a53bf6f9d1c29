"""Sequences and mixtures of stages out of several recipes."""

from __future__ import annotations

import dataclasses
import json

import pytest
from runs import short_train

from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone
from selfembed.objectives.data_driven import DataDriven
from selfembed.objectives.mixture import Mixture
from selfembed.objectives.text_pairs import TextPairs
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes import Recipe, choose_stages, find_recipe, override
from selfembed.training.plan import check_stages

SEQUENCE = "text2token.data_driven -> llm2comp.two_views"
MIXTURE = "text2token.data_driven*0.5 + selfembed.text_pairs"


def test_stages_keep_their_numbers_and_the_first_recipe_its_embedder():
    recipe, first, second = find_recipe(SEQUENCE), find_recipe("text2token"), find_recipe("llm2comp")
    assert recipe.name == SEQUENCE and list(recipe.stages) == ["data_driven", "two_views"]
    assert recipe.stages["data_driven"] == first.stages["data_driven"]
    assert recipe.stages["two_views"] == second.stages["two_views"] and recipe.stages["two_views"].adapter == "merge"
    assert (recipe.embedder, recipe.lora, recipe.embed_length) == (first.embedder, first.lora, first.embed_length)
    assert override(recipe, {"pooling": "mean", "lora.r": 4}).embedder.pooling == "mean"
    assert find_recipe("text2token.data_driven->llm2comp.two_views").stages == recipe.stages


def test_whole_recipes_and_stages_that_come_again():
    recipe = find_recipe("llm2vec-unsup -> text2token -> llm2comp-unsup.two_views")
    assert list(recipe.stages) == ["masked_next_token", "two_views", "data_driven", "model_derived", "two_views_2"]
    assert recipe.stages["two_views_2"] == find_recipe("llm2comp").stages["two_views"]
    changed = override(recipe, {"two_views_2.steps": 7})
    assert changed.stages["two_views_2"].steps == 7 and changed.stages["two_views"].steps == 1000
    one = find_recipe("llm2comp.two_views")
    assert list(one.stages) == ["two_views"] and one.embedder.pooling == "memory"
    assert list(choose_stages(find_recipe(SEQUENCE), ["two_views"]).stages) == ["two_views"]


def test_a_mixture_is_that_of_its_stages_objectives_with_the_first_ones_numbers():
    recipe = find_recipe("text2token.data_driven*0.5+selfembed -> llm2comp.two_views")
    first, second = find_recipe("text2token"), find_recipe("selfembed")
    assert recipe.name == "text2token.data_driven*0.5 + selfembed -> llm2comp.two_views"
    assert list(recipe.stages) == ["data_driven+text_pairs", "two_views"]
    mixed = recipe.stages["data_driven+text_pairs"]
    pairs = second.stages["text_pairs"].objective
    assert mixed.objective == Mixture({"data_driven": 0.5, "text_pairs": 1.0}, {"text_pairs": pairs})
    assert dataclasses.replace(mixed, objective=DataDriven()) == first.stages["data_driven"]
    assert (recipe.embedder, recipe.lora, recipe.calibration_pairs) == (first.embedder, first.lora, 0)
    turned = find_recipe("selfembed + text2token.data_driven*0.5")
    assert (turned.lora, turned.calibration_pairs) == (second.lora, second.calibration_pairs)
    settings = {"weights.data_driven": 2, "text_pairs.temperature": 0.2, "data_driven+text_pairs.steps": 7}
    changed = override(recipe, settings)
    mixed = changed.stages["data_driven+text_pairs"]
    assert mixed.steps == 7 and mixed.objective.weights["data_driven"] == 2
    assert mixed.objective.parts["text_pairs"].temperature == 0.2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text2token.data_drivn + selfembed", "stage 'data_drivn': .*; did you mean 'data_driven'"),
        ("selfembd*2 + bag-of-tokens", "recipe 'selfembd' in .*; did you mean 'selfembed'"),
        ("selfembed + text2token", "recipe 'text2token' in .*expected text2token.data_driven or text2token.model_der"),
        ("selfembed*much + bag-of-tokens", "weight 'much' in .*: expected a number above 0, as in selfembed\\*0.5"),
        ("selfembed*0 + bag-of-tokens", "weight of text_pairs 0.0: expected a number above 0"),
        ("selfembed +", "recipe '' in 'selfembed \\+': expected one of"),
        ("selfembed + selfembed-small", "mixes two stages text_pairs; expected different ones"),
        ("selfembed + llm2comp.supervised", "mixture: supervised reads labelled pairs"),
        ("text2tokn", "recipe 'text2tokn': expected one of .*text2token, .*; did you mean 'text2token'\\?"),
        ("none such", "recipe 'none such': expected one of [^;]*$"),
        ("text2token -> llm2cmp.two_views", "recipe 'llm2cmp' in .*; did you mean 'llm2comp'"),
        ("text2token.data_drive", "stage 'data_drive': expected .* of recipe text2token; did you mean 'data_driven'"),
        ("text2token ->", "recipe '' in 'text2token ->': expected one of"),
        ("text2token.", "stage '': expected one of data_driven, model_derived of recipe text2token"),
    ],
)
def test_unknown_names_suggest_the_nearest(name, message):
    with pytest.raises(InputError, match=message) as caught:
        find_recipe(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text2token.data_driven -> llm2comp.compression", "stage compression of .*: pooling 'last': compr"),
        ("text2token -> llm2vec-unsup", "stage masked_next_token of .*: attention 'causal'"),
    ],
)
def test_impossible_successors_are_refused(name, message, tiny_backbone_dir):
    with pytest.raises(InputError, match=message) as caught:
        check_stages(find_recipe(name), load_backbone(tiny_backbone_dir))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [SEQUENCE, "llm2comp.compression -> text2token.data_driven", "llm2vec-unsup -> text2token.model_derived"],
)
def test_possible_ones_are_not(name, tiny_backbone_dir):
    check_stages(find_recipe(name), load_backbone(tiny_backbone_dir))


def test_a_sequence_is_trained(tiny_backbone_dir, tmp_path):
    settings = {"steps": 2, "lora.dropout": 0.1, "micro_batch_size": 2}
    short_train(tiny_backbone_dir, tmp_path / "out", recipe=SEQUENCE, settings=settings)
    record = json.loads((tmp_path / "out" / "selfembed.json").read_text())
    assert [stage["name"] for stage in record["stages"]] == ["data_driven", "two_views"]
    assert record["recipe"]["name"] == SEQUENCE
    assert record["recipe"]["stages"]["two_views"]["objective"]["kind"] == TwoViews.__name__
    assert record["recipe"]["embedder"]["pooling"] == "last"


def test_a_mixture_named_is_the_mixture_made(tiny_backbone_dir, tmp_path):
    settings = {"steps": 2, "micro_batch_size": 2}
    made = Mixture({"data_driven": 0.5, "text_pairs": 1.0}, {"text_pairs": TextPairs(query_words=32)})
    stage = dataclasses.replace(find_recipe("text2token").stages["data_driven"], objective=made)
    curves = []
    for number, recipe in enumerate((MIXTURE, Recipe(name="made", stages={"mixed": stage}))):
        short_train(tiny_backbone_dir, tmp_path / str(number), recipe=recipe, settings=settings)
        (recorded,) = json.loads((tmp_path / str(number) / "selfembed.json").read_text())["stages"]
        curves.append(recorded["loss_curve"])
    assert curves[0] == curves[1]
    assert [list(step["parts"]) for step in curves[0]] == [["data_driven", "text_pairs"]] * 2
