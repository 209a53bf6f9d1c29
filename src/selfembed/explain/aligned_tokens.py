"""Aligned tokens: the vocabulary entries that an embedding decodes to (Nie et al. 2025; Text2Token Tables 1, 4, 6, 7).

Shapes: B batch, D hidden, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import PreTrainedTokenizerBase

from selfembed.backbone import Backbone, load_backbone
from selfembed.embedder import EmbedderConfig, build_embedder
from selfembed.errors import InputError
from selfembed.export import RECORD


@dataclass(frozen=True, kw_only=True)
class AlignedToken:
    """One of the top tokens of ``softmax(W_lm e)``.

    Args:
        token: as it reads, leading space included.
        id: in the vocabulary.
        probability: under the softmax over the whole vocabulary.
        in_text: whether it is one of the text's own tokens, case and leading space aside.
    """

    token: str
    id: int
    probability: float
    in_text: bool


def aligned_tokens(
    embedder: SentenceTransformer,
    head: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    k: int = 10,
) -> list[list[AlignedToken]]:
    """The top k aligned tokens of every text, likeliest first.

    Args:
        embedder: any SentenceTransformer over the backbone, its vectors not normalised.
        head: the raw backbone's decoder layer.
        tokenizer: the backbone's, without the prompt.
        texts: to embed.
        k: tokens per text.
    """
    embedding_BD = embedder.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    probabilities_BV = head.to(embedding_BD.device)(embedding_BD).softmax(-1)
    top_Bk, ids_Bk = probabilities_BV.topk(k, dim=-1)
    result = []
    for text, ids_k, top_k in zip(texts, ids_Bk.tolist(), top_Bk.tolist(), strict=True):
        own_ids = {i for form in (text, " " + text) for i in tokenizer(form, add_special_tokens=False)["input_ids"]}
        own = {bare(tokenizer.decode([i])) for i in own_ids}
        tokens = [(i, p, tokenizer.decode([i])) for i, p in zip(ids_k, top_k, strict=True)]
        result.append(
            [AlignedToken(token=token, id=i, probability=p, in_text=bare(token) in own) for i, p, token in tokens]
        )
    return result


def bare(token: str) -> str:
    """A token without leading space, in lower case; white space as it is."""
    return token.strip().casefold() or token


@dataclass(frozen=True)
class Explained:
    """A finished embedder, the raw backbone read the same way, and the decoder layer they share."""

    embedder: SentenceTransformer
    raw: SentenceTransformer
    head: nn.Module
    tokenizer: PreTrainedTokenizerBase


def load_explained(folder: str | Path, *, model: str | Path | None = None) -> Explained:
    """Loads what is needed to explain an embedder that selfembed made.

    Args:
        folder: of the embedder.
        model: the backbone it was made from; None takes the one named in its record.

    Raises:
        InputError: no such embedder, or its backbone is gone or has changed.
    """
    folder = Path(folder)
    record_file = folder / RECORD
    if not record_file.is_file():
        raise InputError(f"{folder}: no {RECORD} in it; expected a folder that selfembed train has made")
    record = json.loads(record_file.read_text())
    backbone = load_backbone(model if model is not None else record["model"])
    if backbone.fingerprint != record["model_fingerprint"]:
        raise InputError(
            f"model {backbone.name}: not the backbone {folder} was made from (its content differs); "
            "give that one with --model"
        )
    config = EmbedderConfig(**record["recipe"]["embedder"])
    embedder = SentenceTransformer(str(folder))
    raw = build_embedder(backbone, config, max_length=record["recipe"]["embed_length"], device=str(embedder.device))
    head = Backbone(str(folder), folder).head()
    return Explained(embedder, raw, head.to(embedder.device), backbone.tokenizer)
