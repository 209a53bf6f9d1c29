"""LLM2Comp's pretext tasks: what a text says must come through a few memory vectors."""

from __future__ import annotations

from dataclasses import dataclass

from selfembed.errors import InputError
from selfembed.losses.compression import LLM2COMP, CompressionLoss, CompressionOptions, require_bos
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import EmbedderConfig
from selfembed.model.prompt import NO_PROMPT
from selfembed.objectives.objective import Material, Objective, Prepared


@dataclass(frozen=True, kw_only=True)
class Compression(CompressionOptions, Objective):
    """Trains LLM2Comp's stage 1 (arXiv 2511.17129); its options are those of :class:`CompressionOptions`."""

    citation = LLM2COMP
    forwards = 5.0  # encoder, teacher, decoder, three products with the vocabulary: a guess
    trains_memory = True
    columns = ("text", "text")  # a part by the encoder, a part by the decoder, each padded to the longest
    needs_decoder = True

    def check(self, reading: EmbedderConfig | None, backbone: Backbone) -> None:
        """Refuses an embedder without memory tokens or with a prompt, and a backbone without a bos token."""
        assert reading is not None, "it needs a decoder"
        if reading.pooling != "memory":
            raise InputError(
                f"pooling {reading.pooling!r}: compression needs memory tokens to compress a text into; expected "
                "'memory'; use `pooling='memory'` and `memory_tokens=8`, in a sequence those of its first recipe"
            )
        if reading.template != NO_PROMPT:
            raise InputError(
                f"prompt {reading.template!r}: compression splits the bare text; expected none; "
                f"use `prompt='{NO_PROMPT}'`"
            )
        require_bos(backbone.tokenizer.bos_token_id)

    def prepare(self, material: Material) -> Prepared:
        """Keeps the texts that can be split, and counts those that cannot.

        Raises:
            InputError: None of the texts can be split.
        """
        embedder, reading = material.embedder, material.reading
        assert reading is not None
        ids = embedder.tokenizer(list(material.texts), truncation=True)["input_ids"]
        least = self.min_tokens + reading.memory_tokens
        rows = [row for row, text_ids in enumerate(ids) if len(text_ids) >= least]
        if not rows:
            raise InputError(
                f"corpus {material.corpus.name}: none of {len(ids)} texts can be split; expected {self.min_tokens} "
                "tokens; give longer texts, or lower `min_context` and `min_continuation`"
            )
        bos_id = material.backbone.tokenizer.bos_token_id
        loss = CompressionLoss(embedder, material.head, self, bos_id=bos_id, seed=material.seed)
        notes = {"texts_too_short": len(ids) - len(rows)}
        # A text that comes again is split elsewhere.
        return Prepared(loss=loss, rows=rows, label="turn", notes=notes, state=loss.state, restore=loss.restore)
