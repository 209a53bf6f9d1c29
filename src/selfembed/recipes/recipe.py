"""A recipe: a list of stages with a paper's numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from selfembed.calibration.self_retrieval import LEAST_PAIRS
from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options, did_you_mean
from selfembed.model.embedder import EmbedderConfig
from selfembed.model.lora import Lora
from selfembed.objectives.objective import Objective
from selfembed.recipes.stage import Stage

_PAIRS = 300  # where a recipe that has none shall calibrate


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Says what is trained, in which order, on what kind of embedder.

    Args:
        name: Name of the recipe.
        stages: The stages by name, in order; the optimiser starts afresh with each.
        embedder: Pooling, attention and prompt of the embedder; None for a ready embedder, a sentence-transformers
            folder, which keeps its own, and its own `embed_length`.
        lora: Size and place of the adapter.
        statistics_texts: Largest number of texts that token statistics (IDF) are counted over.
        embed_length: Largest number of tokens of an input of the finished embedder, prompt included.
        calibration_pairs: Number of pairs of the corpus that the finished embedder is judged and the affine map behind
            its pooling is chosen by; 0 leaves both out.
        calibration: `"after"` chooses the map for the finished embedder; `"before"` chooses it for the raw backbone
            and trains the adapter in front of it, so that what is trained is what will be used; `"none"` judges
            without any map.
        looks: Number of times that those pairs are looked at while the last stage is trained, evenly spaced, the end
            included; the best look is what is shipped. Each but the one at the end costs a reading of the pairs. The
            score of the best of several looks is a little too good, since it was chosen by it.
        patience: Number of looks without gain after which that stage ends early.
    """

    name: str
    stages: dict[str, Stage]
    embedder: EmbedderConfig | None = EmbedderConfig()
    lora: Lora = Lora()
    statistics_texts: Annotated[int, Range(least=1)] = 200_000
    embed_length: Annotated[int, Range(least=1)] = 512
    calibration_pairs: Annotated[int, Range(least=0)] = 0
    calibration: Literal["after", "before", "none"] = "after"
    looks: Annotated[int, Range(least=1)] = 1
    patience: Annotated[int, Range(least=1)] = 2

    def __post_init__(self) -> None:
        check_options(self)
        if not self.stages:
            raise InputError(f"recipe {self.name}: no stage left to run; expected at least one; name one")
        if 0 < self.calibration_pairs < LEAST_PAIRS:
            given = f"calibration_pairs {self.calibration_pairs}"
            raise InputError(f"{given}: expected at least {LEAST_PAIRS}, or 0, which leaves calibration out")
        if self.calibration == "before" and not self.calibration_pairs:
            raise InputError(
                f"calibration 'before': expected pairs to choose the map by; set calibration_pairs to at least "
                f"{LEAST_PAIRS}, or calibration to 'after'"
            )

    @property
    def look_steps(self) -> list[int]:
        """Lists the steps of the last stage after which is looked; of fewer steps than looks every one."""
        *_, last = self.stages.values()
        return sorted({math.ceil(look * last.steps / self.looks) for look in range(1, self.looks + 1)})

    @property
    def citations(self) -> list[str]:
        """Lists the BibTeX entries of the papers that its stages come from."""
        found = (citation for stage in self.stages.values() for citation in stage.objective.citations)
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Gives plain JSON values; objectives carry their kind."""
        plain: dict[str, Any] = _plain(self)
        return plain


def with_calibration(recipe: Recipe, calibrate: bool | None) -> Recipe:
    """Makes calibration a recipe's last step, or leaves that step out.

    Args:
        recipe: The recipe, which is left as it is.
        calibrate: Whether a map is chosen for the finished embedder. True leaves a recipe that calibrates already as
            it is, and gives any other the pairs for it: the finished embedder is then held against the raw one too,
            and the raw one shipped where it finds more. False leaves the map out. None is the recipe's own way.

    Raises:
        InputError: The map shall be left out, and the recipe trains in front of it.
    """
    if calibrate is None:
        return recipe
    calibrates = recipe.calibration_pairs > 0 and recipe.calibration != "none"
    if calibrate:
        pairs = recipe.calibration_pairs or _PAIRS
        return recipe if calibrates else dataclasses.replace(recipe, calibration="after", calibration_pairs=pairs)
    if recipe.calibration == "before":
        raise InputError(
            f"recipe {recipe.name}: trains in front of its map, which is no last step to leave out; expected one that "
            "calibrates afterwards; use `calibration='none'`, which trains without a map"
        )
    return dataclasses.replace(recipe, calibration="none") if calibrates else recipe


def check_looks(recipe: Recipe, *, dev: bool) -> None:
    """Refuses looks in training that have nothing to look at, or where something else chooses the best step.

    Args:
        recipe: The recipe.
        dev: Whether there are labelled pairs that decide when to stop.

    Raises:
        InputError: Several looks are asked for, and there cannot be several.
    """
    if recipe.looks == 1:
        return
    if not recipe.calibration_pairs:
        raise InputError(
            f"looks {recipe.looks}: recipe {recipe.name} has no pairs of the corpus to look at; expected some; use "
            f"`calibration_pairs={_PAIRS}`, or `looks=1`"
        )
    *_, (name, last) = recipe.stages.items()
    if dev and last.objective.reads == "pairs":
        raise InputError(
            f"looks {recipe.looks}: the development pairs choose the best step of stage {name} already; expected one "
            "choice; use `looks=1`, or leave out `dev`"
        )


def choose_stages(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Keeps some stages of the recipe, in the order given.

    Raises:
        InputError: The recipe has no stage of one of the names.
    """
    for name in names:
        if name not in recipe.stages:
            raise InputError(
                f"stage {name!r}: expected one of {', '.join(recipe.stages)} of recipe {recipe.name}"
                + did_you_mean(name, recipe.stages)
            )
    return dataclasses.replace(recipe, stages={name: recipe.stages[name] for name in names})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        plain = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **plain} if isinstance(value, Objective) else plain
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
