"""Unsupervised contrastive learning: two views of a text, made by dropout, belong together."""

from __future__ import annotations

from dataclasses import dataclass

from selfembed.errors import InputError
from selfembed.losses.contrastive import SIMCSE, TwoViewsLoss, require_two_views
from selfembed.objectives.objective import STEP_FORWARDS, Material, Objective, Prepared


@dataclass(frozen=True, kw_only=True)
class TwoViews(Objective):
    """Unsupervised contrastive learning (UCL; SimCSE, Gao et al. 2021).

    Args:
        temperature: of InfoNCE over cosine similarities.
        attention_dropout: of attention probabilities while this is trained; backbones ship with 0. The adapter's
            dropout comes on top.

    References:
        LLM2Comp, arXiv 2511.17129, and its code: 0.05 and 0.2, from the first view to the second.
    """

    citation = SIMCSE
    whole_batch = True
    shares_forward = True
    forwards = 2 * (1 + STEP_FORWARDS)  # both views, once more for the cached gradients

    temperature: float = 0.05
    attention_dropout: float = 0.2

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature {self.temperature}: expected a number above 0, e.g. 0.05")
        if not 0 <= self.attention_dropout < 1:
            raise InputError(f"attention_dropout {self.attention_dropout}: expected a share from 0 to below 1")

    def prepare(self, material: Material) -> Prepared:
        """Takes all texts.

        Raises:
            InputError: no dropout is on.
        """
        require_two_views(material.embedder, material.texts[0])
        size = material.budget.mini_batch_size
        loss = TwoViewsLoss(material.embedder, temperature=self.temperature, mini_batch_size=size)
        return Prepared(loss=loss, distinct=True)
