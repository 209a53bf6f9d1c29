"""Recipes out of stages of several recipes: ``text2token.data_driven -> llm2comp.two_views``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from selfembed.errors import InputError
from selfembed.ground.options import did_you_mean
from selfembed.recipes.recipe import Recipe, choose_stages
from selfembed.recipes.stage import Stage

ARROW = "->"


def join(name: str, recipes: Mapping[str, Callable[[], Recipe]]) -> Recipe:
    """Builds the recipe that a sequence describes.

    Each stage keeps its numbers. All else, embedder and LoRA among it, is the first recipe's.

    Args:
        name: recipes (all their stages) or ``RECIPE.STAGE``, with ``->`` between them.
        recipes: by name.

    Raises:
        InputError: there is no such recipe, or it has no such stage.
    """
    found = [_part(part.strip(), name, recipes) for part in name.split(ARROW)]
    stages: dict[str, Stage] = {}
    for part in found:
        for stage_name, stage in part.stages.items():
            free, number = stage_name, 1
            while free in stages:
                number += 1
                free = f"{stage_name}_{number}"
            stages[free] = stage
    first = found[0]
    return Recipe(
        name=f" {ARROW} ".join(part.strip() for part in name.split(ARROW)),
        stages=stages,
        embedder=first.embedder,
        lora=first.lora,
        statistics_texts=first.statistics_texts,
        embed_length=first.embed_length,
    )


def _part(part: str, name: str, recipes: Mapping[str, Callable[[], Recipe]]) -> Recipe:
    recipe_name, dot, stage_name = part.partition(".")
    if recipe_name not in recipes:
        whole = "" if part == name else f" in {name!r}"
        raise InputError(
            f"recipe {recipe_name!r}{whole}: expected one of {', '.join(recipes)}" + did_you_mean(recipe_name, recipes)
        )
    recipe = recipes[recipe_name]()
    return choose_stages(recipe, [stage_name]) if dot else recipe
