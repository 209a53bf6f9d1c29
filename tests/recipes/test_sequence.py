"""Sequences of stages out of several recipes."""

from __future__ import annotations

import json

import pytest
from runs import short_train

from selfembed.errors import InputError
from selfembed.model.backbone import load_backbone
from selfembed.objectives.two_views import TwoViews
from selfembed.recipes import choose_stages, find_recipe, override
from selfembed.training.plan import check_stages

SEQUENCE = "text2token.data_driven -> llm2comp.two_views"


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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text2tokn", "recipe 'text2tokn': expected one of .*text2token, .*; did you mean 'text2token'\\?"),
        ("none such", "recipe 'none such': expected one of [^;]*$"),
        ("text2token -> llm2cmp.two_views", "recipe 'llm2cmp' in .*; did you mean 'llm2comp'"),
        ("text2token.data_drive", "stage 'data_drive': recipe text2token has .*; did you mean 'data_driven'"),
        ("text2token ->", "recipe '' in 'text2token ->': expected one of"),
        ("text2token.", "stage '': recipe text2token has"),
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
