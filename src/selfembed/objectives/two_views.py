"""Unsupervised contrastive learning: two views of a text, made by dropout, belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from selfembed.ground.options import Range
from selfembed.losses.contrastive import SIMCSE, TwoViewsLoss, require_two_views
from selfembed.objectives.objective import STEP_FORWARDS, Material, Objective, Prepared


@dataclass(frozen=True, kw_only=True)
class TwoViews(Objective):
    """Trains by unsupervised contrastive learning (UCL; SimCSE, Gao et al. 2021).

    Args:
        temperature: Temperature of InfoNCE over cosine similarities.
        attention_dropout: Dropout of attention probabilities during this stage; backbones ship with 0. The adapter's
            dropout comes on top.

    References:
        LLM2Comp, arXiv 2511.17129, and its code: 0.05 and 0.2, from the first view to the second.
    """

    citation = SIMCSE
    whole_batch = True
    shares_forward = True
    columns = ("text", "text")
    caches = True
    forwards = 2 * (1 + STEP_FORWARDS)  # both views, once more for the cached gradients

    temperature: Annotated[float, Range(above=0, example="0.05")] = 0.05
    attention_dropout: Annotated[float, Range(least=0, below=1)] = 0.2

    def prepare(self, material: Material) -> Prepared:
        """Takes all texts.

        Raises:
            InputError: No dropout is on.
        """
        require_two_views(material.embedder, material.texts[0])
        size = material.budget.mini_batch_size
        loss = TwoViewsLoss(material.embedder, temperature=self.temperature, mini_batch_size=size)
        return Prepared(loss=loss, distinct=True)
