"""LLM2Vec's first objective: a decoder that sees both sides learns to use what comes after a word."""

from __future__ import annotations

from dataclasses import dataclass

from selfembed.errors import InputError
from selfembed.losses.masked_next_token import (
    LLM2VEC,
    MaskedNextTokenLoss,
    MaskedNextTokenOptions,
    mask_id,
    maskable,
)
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import EmbedderConfig, embedder_prompt
from selfembed.objectives.objective import Material, Objective, Prepared


@dataclass(frozen=True, kw_only=True)
class MaskedNextToken(MaskedNextTokenOptions, Objective):
    """Trains masked next-token prediction (MNTP); its options are those of :class:`MaskedNextTokenOptions`."""

    citation = LLM2VEC
    needs_decoder = True

    def check(self, reading: EmbedderConfig | None, backbone: Backbone) -> None:
        """Refuses causal attention, which never sees what comes after, and a mask token that the vocabulary lacks."""
        assert reading is not None, "it needs a decoder"
        if reading.attention != "bidirectional":
            raise InputError(
                f"attention {reading.attention!r}: masked next-token prediction learns to see what comes after a "
                "word; expected 'bidirectional'; use `attention='bidirectional'`"
            )
        mask_id(backbone.tokenizer, self.mask_token)

    def prepare(self, material: Material) -> Prepared:
        """Keeps the texts that have a token to mask, and counts those that have none.

        Raises:
            InputError: None of the texts has one.
        """
        embedder, backbone = material.embedder, material.backbone
        assert material.reading is not None
        prompt = embedder_prompt(backbone, material.reading)
        ids = embedder.tokenizer(list(material.texts), truncation=True)["input_ids"]
        spans = [maskable(text_ids, prompt) for text_ids in ids]
        rows = [row for row, (first, last) in enumerate(spans) if first < last]
        if not rows:
            raise InputError(
                f"corpus {material.corpus.name}: none of {len(ids)} texts has a token to mask; expected at least two "
                "tokens; give longer texts"
            )
        loss = MaskedNextTokenLoss(
            embedder,
            material.head,
            self,
            mask_id=mask_id(backbone.tokenizer, self.mask_token),
            prompt=prompt,
            vocab_size=backbone.vocab_size,
            seed=material.seed,
        )
        # A text that comes again is masked elsewhere.
        return Prepared(loss=loss, rows=rows, label="turn", notes={"texts_too_short": len(ids) - len(rows)})
