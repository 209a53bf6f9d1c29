"""Text2Token's second objective: an embedding shall decode to what the raw model says of this text alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from selfembed.data.sampling import choose_texts
from selfembed.ground.options import Range
from selfembed.losses.token_target import OnlineModelDerivedLoss
from selfembed.objectives.objective import STEP_FORWARDS, Material, Measured, Prepared
from selfembed.objectives.token_target import TokenTarget
from selfembed.targets.model_derived import ModelDerivedOptions, build_targets, common_distribution
from selfembed.targets.raw_model import raw_model_state
from selfembed.targets.token_targets import TokenTargets


@dataclass(frozen=True, kw_only=True)
class ModelDerived(ModelDerivedOptions, TokenTarget):
    """Trains Text2Token's stage II (arXiv 2510.10224, §3.2.2); its other options are :class:`ModelDerivedOptions`.

    Args:
        common: `"sample"` takes Qc from a sample of the corpus, before the stage, and stores the targets; `"online"`
            takes the running mean over the training batches for Qc, and computes targets in the step.
        common_texts: Size of the sample (Fig. 5: no gain beyond 10,000).
    """

    forwards = STEP_FORWARDS + 1

    common: Literal["sample", "online"] = "sample"
    common_texts: Annotated[int, Range(least=1)] = 10_000

    def preparation_seconds(self, measured: Measured) -> float:
        """Estimates the forward passes over the sample."""
        if self.common != "sample":
            return 0.0
        return min(self.common_texts, measured.texts) * measured.mean_tokens / measured.tokens_per_second

    def targets(self, material: Material) -> TokenTargets:
        """Gives the targets, from the cache unless they are only looked at: those are of these texts alone."""
        return self.compute(material) if material.look else super().targets(material)

    def key(self, material: Material) -> list[Any]:
        return [material.corpus.fingerprint, raw_model_state(material.embedder, material.head)]

    def compute(self, material: Material) -> TokenTargets:
        embedder, head, progress = material.embedder, material.head, material.progress
        if material.look:
            sample = list(material.texts)
        else:
            sample = list(choose_texts(material.corpus.texts(), self.common_texts, seed=0)["text"])
        common = common_distribution(embedder, head, sample, progress)
        return build_targets(embedder, head, material.texts, common, self, progress)

    def prepare(self, material: Material) -> Prepared:
        """Prepares stored targets, or a loss that computes them in every step."""
        if self.common == "sample":
            return super().prepare(material)
        loss = OnlineModelDerivedLoss(material.embedder, material.head, self)
        notes = {"targets": "in the step"}
        return Prepared(loss=loss, notes=notes, state=loss.state, restore=loss.restore)
