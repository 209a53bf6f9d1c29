"""Recipes by name: one paper per file."""

from __future__ import annotations

from selfembed.recipes.adapt import adapt
from selfembed.recipes.llm2comp import llm2comp, llm2comp_small, llm2comp_unsup, llm2comp_unsup_small
from selfembed.recipes.llm2vec import llm2vec_unsup, llm2vec_unsup_small
from selfembed.recipes.override import override
from selfembed.recipes.recipe import Recipe, choose_stages
from selfembed.recipes.selfembed import selfembed, selfembed_small
from selfembed.recipes.sequence import join
from selfembed.recipes.stage import Stage
from selfembed.recipes.text2token import bag_of_tokens, text2token, text2token_small

RECIPES = {
    "selfembed": selfembed,
    "selfembed-small": selfembed_small,
    "adapt": adapt,
    "text2token": text2token,
    "text2token-small": text2token_small,
    "bag-of-tokens": bag_of_tokens,
    "llm2comp": llm2comp,
    "llm2comp-small": llm2comp_small,
    "llm2comp-unsup": llm2comp_unsup,
    "llm2comp-unsup-small": llm2comp_unsup_small,
    "llm2vec-unsup": llm2vec_unsup,
    "llm2vec-unsup-small": llm2vec_unsup_small,
}

__all__ = ["RECIPES", "Recipe", "Stage", "choose_stages", "find_recipe", "override"]


def find_recipe(name: str) -> Recipe:
    """Finds a recipe, with its paper's numbers.

    Args:
        name: Name of a recipe, or of one of its stages, `text2token.data_driven`; several of these with `->`
            between them, one after the other; or stages with `+` between them, mixed in one, each with a weight,
            `text2token.data_driven*0.5`. See :func:`selfembed.recipes.sequence.join`.

    Raises:
        InputError: There is none of this name.
    """
    return RECIPES[name]() if name in RECIPES else join(name, RECIPES)
