"""A stage: one objective, with its budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options
from selfembed.objectives.objective import Budget, Objective


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Trains one objective: so long, so hard.

    Args:
        objective: What is optimised.
        steps: Number of optimiser steps.
        batch_size: Number of texts, or labelled examples, per step.
        micro_batch_size: Number of texts per forward pass; gradients are added up over the batch.
        max_length: Largest number of tokens of a training input, prompt included; the text is cut, never the prompt.
        learning_rate: Peak learning rate of AdamW.
        schedule: Course of the learning rate after the warm-up.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Weight decay of AdamW.
        max_grad_norm: Norm that gradients are clipped to; 0 does not clip.
        gradient_checkpointing: Whether activations are computed anew in the backward pass: less memory, more time.
        adapter: What becomes of the adapter of the stage before: `"continue"` trains it further, `"merge"` adds it
            to the weights and begins a fresh one.
    """

    objective: Objective
    steps: Annotated[int, Range(least=1)]
    batch_size: Annotated[int, Range(least=1)] = 64
    micro_batch_size: Annotated[int, Range(least=1)] | None = None
    max_length: Annotated[int, Range(least=1)] = 128
    learning_rate: Annotated[float, Range(above=0, example="3e-5")] = 3e-5
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    warmup: Annotated[float, Range(least=0, most=1)] = 0.1
    weight_decay: Annotated[float, Range(least=0)] = 0.0
    max_grad_norm: Annotated[float, Range(least=0)] = 1.0
    gradient_checkpointing: bool = False
    adapter: Literal["continue", "merge"] = "continue"

    def __post_init__(self) -> None:
        check_options(self)
        if self.batch_size % (self.micro_batch_size or self.batch_size):
            raise InputError(
                f"micro_batch_size {self.micro_batch_size}: expected a divisor of batch_size {self.batch_size}"
            )

    @property
    def accumulation(self) -> int:
        """Counts the forward passes whose gradients the trainer adds up; a batch that belongs together is one."""
        return 1 if self.objective.whole_batch else self.batch_size // (self.micro_batch_size or self.batch_size)

    @property
    def budget(self) -> Budget:
        """Gives the numbers that an objective needs."""
        return Budget(steps=self.steps, batch_size=self.batch_size, micro_batch_size=self.micro_batch_size)

    @property
    def texts(self) -> int:
        """Counts the texts of the corpus that the stage asks for; labelled examples are not of the corpus."""
        return self.budget.texts if self.objective.reads == "texts" else 0
