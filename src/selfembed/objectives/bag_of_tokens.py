"""EBAE as Text2Token runs it (Llama2Vec, arXiv 2312.15503): a text's embedding shall decode to all of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfembed.objectives.objective import Material
from selfembed.objectives.token_target import TokenTarget
from selfembed.targets.bag_of_tokens import build_bag_of_tokens
from selfembed.targets.token_targets import TokenTargets


@dataclass(frozen=True, kw_only=True)
class BagOfTokens(TokenTarget):
    """Trains towards the uniform distribution over the distinct tokens of a text.

    Args:
        leading_space: Whether the first word is tokenised like a word inside a sentence.
        whole_text: See :class:`selfembed.objectives.data_driven.DataDriven`.
    """

    leading_space: bool = True
    whole_text: bool = False

    def key(self, material: Material) -> list[Any]:
        return []

    def compute(self, material: Material) -> TokenTargets:
        backbone = material.backbone
        return build_bag_of_tokens(
            material.texts,
            backbone.tokenizer,
            backbone.vocab_size,
            leading_space=self.leading_space,
            progress=material.progress,
        )
