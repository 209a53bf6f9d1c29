"""Several objectives in one stage, weighted, on the same texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_value
from selfembed.losses.mixture import MixtureLoss
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import EmbedderConfig
from selfembed.objectives.objective import Material, Measured, Objective, Prepared
from selfembed.objectives.order import turns
from selfembed.objectives.registry import find_objective
from selfembed.targets.token_targets import TokenTargets


@dataclass(frozen=True)
class Mixture(Objective):
    """Trains a weighted sum of objectives: `Mixture({"data_driven": 1.0, "two_views": 0.2})`.

    Losses of embeddings alone share the forward passes. While a mixture is trained the dropout of attention is the
    largest that one of its parts asks for, for all of them.

    Args:
        weights: Weights of the parts, by their registered names.
        parts: The parts whose options are not the default ones, by the same names.

    Raises:
        InputError: A name is unknown, a weight is no number above 0, or a part reads labelled pairs.
    """

    weights: Mapping[str, float]
    parts: Mapping[str, Objective] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.weights:
            raise InputError("mixture {}: expected a weight for at least one objective; name one")
        for name, weight in self.weights.items():
            check_value(f"weight of {name}", weight, Annotated[float, Range(above=0)])
        if extra := [name for name in self.parts if name not in self.weights]:
            raise InputError(f"mixture: part {extra[0]} has no weight; expected one for every part; give its weight")
        parts = {name: self.parts.get(name) or find_objective(name) for name in self.weights}
        for name, part in parts.items():
            if part.reads != "texts":
                raise InputError(
                    f"mixture: {name} reads labelled {part.reads}; expected parts that read texts; leave it out"
                )
        sharing = [part.forwards for part in parts.values() if part.shares_forward]
        alone = [part.forwards for part in parts.values() if not part.shares_forward]
        decided = {
            "parts": parts,
            "weights": {name: float(weight) for name, weight in self.weights.items()},
            "whole_batch": any(part.whole_batch for part in parts.values()),
            "forwards": max(sharing, default=0.0) + sum(alone),
            "columns": _shared_columns(part.columns for part in parts.values() if part.shares_forward),
            "attention_dropout": max(part.attention_dropout for part in parts.values()),
            "decodes": any(part.decodes for part in parts.values()),
            "needs_decoder": any(part.needs_decoder for part in parts.values()),
            "trains_memory": any(part.trains_memory for part in parts.values()),
        }
        for name, value in decided.items():
            object.__setattr__(self, name, value)

    @property
    def citations(self) -> tuple[str, ...]:
        """Gives the BibTeX entries of all parts."""
        return tuple(dict.fromkeys(citation for part in self.parts.values() for citation in part.citations))

    @property
    def display_name(self) -> str:
        """Names the parts with their weights."""
        return " + ".join(f"{self.weights[name]:g} {part.display_name}" for name, part in self.parts.items())

    @property
    def needs_tagger(self) -> bool:
        """Tells whether a part needs a tagger."""
        return any(part.needs_tagger for part in self.parts.values())

    def check(self, reading: EmbedderConfig | None, backbone: Backbone) -> None:
        """Refuses what any of the parts refuses."""
        for part in self.parts.values():
            part.check(reading, backbone)

    def preparation_seconds(self, measured: Measured) -> float:
        """Adds up the seconds of all parts."""
        return sum(part.preparation_seconds(measured) for part in self.parts.values())

    def held_tokens(self, longest: Mapping[str, int], *, cut: bool) -> int:
        """Adds to the shared columns what parts embed for themselves; a batch that is cut keeps the longest alone."""
        shared = [longest[column] for column in self.columns]
        alone = [part.held_tokens(longest, cut=False) for part in self.parts.values() if not part.shares_forward]
        return max(shared + alone) if cut and self.whole_batch else sum(shared + alone)

    def targets(self, material: Material) -> TokenTargets | None:
        """Gives the token targets of the first part that has some."""
        found = (part.targets(material) for part in self.parts.values())
        return next((targets for targets in found if targets is not None), None)

    def cut(self, material: Material) -> Material:
        """Cuts the texts as the one part does that cuts them.

        Raises:
            InputError: Two parts cut texts.
        """
        cut = {name: found for name, part in self.parts.items() if (found := part.cut(material)) is not material}
        if len(cut) > 1:
            raise InputError(f"mixture: {' and '.join(cut)} both cut texts; expected one that does; leave one out")
        return next(iter(cut.values()), material)

    def prepare(self, material: Material) -> Prepared:
        """Keeps the texts that all parts can be trained on.

        Raises:
            InputError: There is no text that all parts can be trained on.
        """
        prepared = {name: part.prepare(material) for name, part in self.parts.items()}
        every = set(range(len(material.texts)))
        rows = sorted(every.intersection(*(every if one.rows is None else one.rows for one in prepared.values())))
        if not rows:
            raise InputError(
                f"corpus {material.corpus.name}: none of {len(every)} texts can be trained on by all of "
                f"{', '.join(prepared)}; give longer texts, or leave a part out"
            )
        distinct = any(one.distinct for one in prepared.values())
        loss = MixtureLoss(
            material.embedder,
            {name: one.loss for name, one in prepared.items()},
            self.weights,
            columns=(*material.columns, "text"),
            text_of_turn=turns(material, rows, distinct=distinct),
            by_text=[name for name, one in prepared.items() if one.label == "text"],
            whole=[name for name, part in self.parts.items() if part.whole_batch],
            mini_batch_size=material.budget.mini_batch_size if self.whole_batch else None,
        )
        has_state = any(one.state is not None for one in prepared.values())
        return Prepared(
            loss=loss,
            rows=rows,
            label="turn",
            distinct=distinct,
            notes={"parts": {name: one.notes for name, one in prepared.items()}},
            callbacks=tuple(callback for one in prepared.values() for callback in one.callbacks),
            state=loss.state if has_state else None,
            restore=loss.restore if has_state else None,
        )


def _shared_columns(columns: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Names each column as often as the part that embeds it most often."""
    read = list(columns)
    names = dict.fromkeys(name for part in read for name in part)
    return tuple(name for name in names for _ in range(max(part.count(name) for part in read)))
