"""What objectives with token targets have in common."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import numpy as np

from selfembed.errors import InputError
from selfembed.ground.hashing import texts_hash
from selfembed.losses.token_target import TEXT2TOKEN, TokenTargetLoss
from selfembed.model.tokenizer import tokenizer_hash
from selfembed.objectives.objective import Material, Objective, Prepared
from selfembed.targets.cache import stored, summary
from selfembed.targets.token_targets import TokenTargets


class TokenTarget(Objective):
    """Trains a text's embedding to decode to a sparse distribution over the vocabulary, computed beforehand.

    Attributes:
        whole_text: Whether targets are made of whole texts and not only of what an input holds of them.
    """

    citation = TEXT2TOKEN
    shares_forward = True
    decodes = True
    needs_decoder = True
    whole_text: bool = True

    @abstractmethod
    def key(self, material: Material) -> list[Any]:
        """Lists what the targets depend on besides options, backbone and texts."""

    @abstractmethod
    def compute(self, material: Material) -> TokenTargets:
        """Computes the targets of the material's texts."""

    def targets(self, material: Material) -> TokenTargets:
        """Gives the targets of the material's texts, from the cache where they were computed before."""
        if not self.whole_text:
            material = replace(material, texts=material.read_texts())
        backbone = [material.backbone.fingerprint, tokenizer_hash(material.backbone.tokenizer)]
        key = [*backbone, self, texts_hash(iter(material.texts)), *self.key(material)]
        return stored("targets", key, TokenTargets, lambda: self.compute(material))

    def prepare(self, material: Material) -> Prepared:
        """Gives the targets of all texts; texts without a target are left out and counted.

        Raises:
            InputError: No text has a target.
        """
        targets = self.targets(material)
        rows = np.flatnonzero(targets.support_N).tolist()
        if not rows:
            raise InputError(
                f"corpus {material.corpus.name}: none of {len(material.texts)} texts has a key token; expected a "
                "noun, proper noun or adjective that does not occur in every text; give other text, or keep all words "
                "with `pos=None`"
            )
        notes = {"targets": summary(targets), "texts_without_target": len(targets) - len(rows)}
        return Prepared(loss=TokenTargetLoss(material.embedder, material.head, targets), rows=rows, notes=notes)
