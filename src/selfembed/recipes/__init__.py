"""Recipes by name: one paper per file."""

from __future__ import annotations

from selfembed.errors import InputError
from selfembed.recipes.llm2comp import llm2comp, llm2comp_small, llm2comp_unsup, llm2comp_unsup_small
from selfembed.recipes.override import override
from selfembed.recipes.recipe import Recipe, choose_stages
from selfembed.recipes.stage import Stage
from selfembed.recipes.text2token import bag_of_tokens, text2token, text2token_small

RECIPES = {
    "text2token": text2token,
    "text2token-small": text2token_small,
    "bag-of-tokens": bag_of_tokens,
    "llm2comp": llm2comp,
    "llm2comp-small": llm2comp_small,
    "llm2comp-unsup": llm2comp_unsup,
    "llm2comp-unsup-small": llm2comp_unsup_small,
}

__all__ = ["RECIPES", "Recipe", "Stage", "choose_stages", "find_recipe", "override"]


def find_recipe(name: str) -> Recipe:
    """A recipe with its paper's numbers.

    Raises:
        InputError: there is none of this name.
    """
    if name not in RECIPES:
        raise InputError(f"recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()
