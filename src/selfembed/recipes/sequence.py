"""Recipes out of stages of several recipes, one after the other or mixed in one stage.

`text2token.data_driven -> llm2comp.two_views`; `text2token.data_driven*0.5 + selfembed.text_pairs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from selfembed.errors import InputError
from selfembed.ground.options import did_you_mean
from selfembed.objectives.mixture import Mixture
from selfembed.recipes.recipe import Recipe, choose_stages
from selfembed.recipes.stage import Stage

ARROW, PLUS, TIMES = "->", "+", "*"

Recipes = Mapping[str, Callable[[], Recipe]]


def join(name: str, recipes: Recipes) -> Recipe:
    """Builds the recipe that a sequence describes.

    Each stage keeps its numbers; a mixture has those of the first stage named in it. All else, embedder and LoRA among
    it, is the first recipe's.

    Args:
        name: Recipes (all their stages), `RECIPE.STAGE`, or mixtures, with `->` between them. A mixture is a sum
            of stages, `RECIPE.STAGE*WEIGHT + RECIPE.STAGE`; a weight that is not given is 1.
        recipes: All recipes, by name.

    Raises:
        InputError: There is no such recipe, it has no such stage, or these stages cannot be mixed.
    """
    parts = [part.strip() for part in name.split(ARROW)]
    found = [(_mixed if PLUS in part or TIMES in part else _named)(part, name, recipes) for part in parts]
    stages: dict[str, Stage] = {}
    for part in found:
        for stage_name, stage in part.stages.items():
            free, number = stage_name, 1
            while free in stages:
                number += 1
                free = f"{stage_name}_{number}"
            stages[free] = stage
    return dataclasses.replace(found[0], name=f" {ARROW} ".join(part.name for part in found), stages=stages)


def _named(part: str, name: str, recipes: Recipes) -> Recipe:
    """Finds the recipe or the one stage of this name."""
    recipe_name, dot, stage_name = part.partition(".")
    if recipe_name not in recipes:
        whole = "" if part == name else f" in {name!r}"
        raise InputError(
            f"recipe {recipe_name!r}{whole}: expected one of {', '.join(recipes)}" + did_you_mean(recipe_name, recipes)
        )
    recipe = recipes[recipe_name]()
    return dataclasses.replace(choose_stages(recipe, [stage_name]), name=part) if dot else recipe


def _mixed(part: str, name: str, recipes: Recipes) -> Recipe:
    """Builds the recipe of one stage that a sum describes."""
    weights: dict[str, float] = {}
    found: dict[str, Recipe] = {}
    for term in part.split(PLUS):
        stage_of, times, weight = (word.strip() for word in term.partition(TIMES))
        recipe = _named(stage_of, name, recipes)
        if len(recipe.stages) > 1:
            choices = " or ".join(f"{stage_of}.{stage}" for stage in recipe.stages)
            raise InputError(f"recipe {stage_of!r} in {name!r}: a mixture takes one stage of it; expected {choices}")
        (stage,) = recipe.stages
        if stage in found:
            raise InputError(f"recipe {name!r}: mixes two stages {stage}; expected different ones; leave one out")
        found[stage] = recipe
        weights[stage] = _weight(weight, term, name) if times else 1.0
    first, *_ = found.values()
    objective = Mixture(weights, {stage: recipe.stages[stage].objective for stage, recipe in found.items()})
    numbers = next(iter(first.stages.values()))
    shown = {stage: "" if weight == 1 else f"{TIMES}{weight:g}" for stage, weight in weights.items()}
    return dataclasses.replace(
        first,
        name=f" {PLUS} ".join(recipe.name + shown[stage] for stage, recipe in found.items()),
        stages={PLUS.join(found): dataclasses.replace(numbers, objective=objective)},
    )


def _weight(given: str, term: str, name: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise InputError(
            f"weight {given!r} in {name!r}: expected a number above 0, as in {term.partition(TIMES)[0].strip()}*0.5"
        ) from None
