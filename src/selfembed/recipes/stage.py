"""A stage is one objective with its budget; a recipe is a list of stages with a paper's numbers."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfembed.errors import InputError
from selfembed.losses.compression import LLM2COMP, Compression
from selfembed.losses.contrastive import Supervised, TwoViews
from selfembed.losses.token_target import TEXT2TOKEN
from selfembed.model.backbone import Lora
from selfembed.model.embedder import EmbedderConfig
from selfembed.targets.cache import TokenTarget

Objective = TokenTarget | Compression | TwoViews | Supervised


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One objective, how long and how hard.

    Args:
        objective: what is optimised.
        steps: optimiser steps.
        batch_size: texts, or labelled examples, per step.
        micro_batch_size: texts per forward pass; gradients are accumulated over batch_size / micro_batch_size of them.
        max_length: tokens of an input in training, prompt included; the text is cut, never the prompt.
        learning_rate: peak, of AdamW.
        schedule: after the warm-up.
        warmup: share of the steps with rising learning rate.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip.
        gradient_checkpointing: recompute activations in the backward pass: less memory, a third more time.
        adapter: what becomes of the adapter of the stage before: ``"continue"`` trains it further, ``"merge"`` adds it
            to the weights and begins a fresh one.
    """

    objective: Objective
    steps: int
    batch_size: int = 64
    micro_batch_size: int | None = None
    max_length: int = 128
    learning_rate: float = 3e-5
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    gradient_checkpointing: bool = False
    adapter: Literal["continue", "merge"] = "continue"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.micro_batch_size is not None and (
            self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size
        ):
            raise InputError(
                f"micro_batch_size {self.micro_batch_size}: expected a divisor of batch_size {self.batch_size}"
            )
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate {self.learning_rate}: expected a number above 0, e.g. 3e-5")
        if not 0 <= self.warmup <= 1:
            raise InputError(f"warmup {self.warmup}: expected a share from 0 to 1")
        if self.schedule not in ("linear", "constant", "cosine"):
            raise InputError(f"schedule {self.schedule!r}: expected 'linear', 'constant' or 'cosine'")
        if self.adapter not in ("continue", "merge"):
            raise InputError(f"adapter {self.adapter!r}: expected 'continue' or 'merge'")

    @property
    def accumulation(self) -> int:
        """Forward passes whose gradients the trainer adds up; texts that are held against each other stay together."""
        if isinstance(self.objective, TwoViews | Supervised):
            return 1
        return self.batch_size // (self.micro_batch_size or self.batch_size)

    @property
    def texts(self) -> int:
        """Training texts of the corpus the stage asks for; labelled examples are not of the corpus."""
        return 0 if isinstance(self.objective, Supervised) else self.steps * self.batch_size


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, in which order, on what kind of embedder.

    Args:
        name: of the recipe.
        stages: by name, in order; the optimiser starts afresh with each.
        embedder: pooling, attention, prompt.
        lora: the adapter.
        statistics_texts: texts that token statistics (IDF) are counted over, at most.
        embed_length: tokens of an input, prompt included, of the finished embedder.
    """

    name: str
    stages: dict[str, Stage]
    embedder: EmbedderConfig = EmbedderConfig()
    lora: Lora = Lora()
    statistics_texts: int = 200_000
    embed_length: int = 512

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError(f"recipe {self.name}: no stage left to run; name at least one")

    @property
    def citations(self) -> list[str]:
        """BibTeX entries of the papers that its stages come from."""
        objectives = [stage.objective for stage in self.stages.values()]
        papers = {
            TEXT2TOKEN: any(isinstance(objective, TokenTarget) for objective in objectives),
            LLM2COMP: any(isinstance(objective, Compression | TwoViews | Supervised) for objective in objectives),
        }
        return [paper for paper, used in papers.items() if used]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; objectives carry their kind."""
        return _plain(self)


def choose_stages(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with these of its stages, in this order.

    Raises:
        InputError: it has no stage of such a name.
    """
    for name in names:
        if name not in recipe.stages:
            raise InputError(f"stage {name!r}: recipe {recipe.name} has {', '.join(recipe.stages)}")
    return dataclasses.replace(recipe, stages={name: recipe.stages[name] for name in names})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, EmbedderConfig) and not value.memory_tokens:
            # Records and keys of recipes without memory tokens stay what they were before there were any.
            fields = {name: item for name, item in fields.items() if not name.startswith("memory_")}
        return {"kind": type(value).__name__, **fields} if isinstance(value, Objective) else fields
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def override(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """Replaces numbers of a recipe.

    Args:
        recipe: left as it is.
        settings: by dotted path from the recipe (``"stages.data_driven.steps"``, ``"embedder.pooling"``,
            ``"lora.r"``), or by a path from a stage (``"data_driven.steps"``, ``"data_driven.form"``), or by the bare
            name of a field (``"learning_rate"``, ``"pooling"``), which sets it wherever it occurs. Values may be
            strings, as a command line gives them.

    Raises:
        InputError: no such setting, or a value of the wrong type.
    """
    changes: dict[tuple[str, ...], tuple[Any, str]] = {}
    for path, value in settings.items():
        # The objective's options are named as if they were the stage's own: data_driven.form.
        named = {candidate: {candidate, candidate.replace(".objective.", ".")} for candidate in _paths(recipe)}
        paths = [found for found, names in named.items() if any(f".{name}".endswith(f".{path}") for name in names)]
        if not paths:
            names = ", ".join(sorted({candidate.rpartition(".")[2] for candidate in _paths(recipe)}))
            raise InputError(f"setting {path!r}: not in recipe {recipe.name}; its settings are {names}")
        changes |= {tuple(found.split(".")): (value, path) for found in paths}
    return _replace(recipe, changes)


def _paths(value: Any, prefix: str = "") -> list[str]:
    if isinstance(value, dict):
        items = list(value.items())
    elif dataclasses.is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        return [prefix]
    return [path for name, item in items for path in _paths(item, f"{prefix}.{name}" if prefix else name)]


def _replace(holder: Any, changes: dict[tuple[str, ...], tuple[Any, str]]) -> Any:
    """All at once, since only together may they be valid."""
    by_name: dict[str, dict[tuple[str, ...], tuple[Any, str]]] = {}
    for (name, *rest), change in changes.items():
        by_name.setdefault(name, {})[tuple(rest)] = change
    if isinstance(holder, dict):
        return {**holder, **{name: _replace(holder[name], below) for name, below in by_name.items()}}
    replaced = {}
    for name, below in by_name.items():
        if () in below:
            value, given = below[()]
            replaced[name] = _parse(value, typing.get_type_hints(type(holder))[name], given)
        else:
            replaced[name] = _replace(getattr(holder, name), below)
    return dataclasses.replace(holder, **replaced)


def _parse(value: Any, kind: Any, given: str) -> Any:
    """A value of the field's type from what a command line or a caller gave."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in options and (value is None or value == "none"):
        return None
    wanted = next(option for option in options if option is not type(None))
    origin = typing.get_origin(wanted)
    try:
        if origin is Literal:
            if value in typing.get_args(wanted):
                return value
        elif origin is tuple:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items)
        elif wanted is bool:
            parsed = json.loads(value.lower()) if isinstance(value, str) else value
            if isinstance(parsed, bool):
                return parsed
        elif wanted is int and float(value) == int(float(value)):
            return int(float(value))
        elif wanted is float or wanted is str:
            return wanted(value)
    except (TypeError, ValueError, OverflowError):
        pass
    expected = (
        " or ".join(map(str, typing.get_args(wanted))) if origin is Literal else getattr(wanted, "__name__", wanted)
    )
    raise InputError(f"setting {given}={value}: expected {expected}")
