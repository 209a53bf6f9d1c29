"""Aligned tokens: the vocabulary entries that an embedding decodes to (Nie et al. 2025; Text2Token Tables 1, 4, 6, 7).

Shapes: B batch, D hidden, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerBase

from selfembed.backbone import load_backbone
from selfembed.embedder import EmbedderConfig, build_embedder, load_embedder
from selfembed.errors import InputError
from selfembed.export import RECORD

# On the subjects of the paper's example texts (Text2Token Tables 1, 4, 6, 7). The words are ours, not the paper's, of
# which we know no more than the subjects' names.
EXAMPLES = (
    "Noori is a rock band from Lahore, Pakistan. Two brothers founded it, and its songs in Urdu, carried by electric "
    "guitars, made it popular with students all over the country.",
    "The discovery of gold near Ballarat in 1851 drew tens of thousands of migrants to Victoria within a few years. "
    "Diggers came from Britain, China and America, and a quiet sheep run became a city.",
    "Fanny Bullock Workman was an American geographer, travel writer and mountaineer. She explored the glaciers of "
    "the Himalaya and the Karakoram, and set altitude records for women.",
    "Henry Cow were an English experimental rock group, founded at the University of Cambridge in 1968. They mixed "
    "composed pieces with free improvisation and stayed away from the music business.",
)


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
    return decode_vectors(embedding_BD, head, tokenizer, texts, k=k)


def decode_vectors(
    embedding_BD: Tensor, head: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, k: int = 10
) -> list[list[AlignedToken]]:
    """The same of vectors that are there already, one for each text."""
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
    """Loads what is needed to explain an embedder.

    Args:
        folder: of the embedder.
        model: the backbone it was made from; None takes the one named in the record that selfembed left.

    Raises:
        InputError: no such embedder, or its backbone is not known, gone, or another.
    """
    folder = Path(folder)
    record_file = folder / RECORD
    if not record_file.is_file():
        return _load_unrecorded(folder, model)
    record = json.loads(record_file.read_text())
    backbone = load_backbone(model if model is not None else record["model"])
    if backbone.fingerprint != record["model_fingerprint"]:
        raise InputError(
            f"model {backbone.name}: not the backbone {folder} was made from (its content differs); "
            "give that one with --model"
        )
    config = EmbedderConfig(**record["recipe"]["embedder"])
    embedder = load_embedder(folder)
    raw = build_embedder(backbone, config, max_length=record["recipe"]["embed_length"], device=str(embedder.device))
    head = backbone.head()  # not the folder's own: a tied one has rows for memory tokens too
    return Explained(embedder, raw, head.to(embedder.device), backbone.tokenizer)


def _load_unrecorded(folder: Path, model: str | Path | None) -> Explained:
    """An embedder that others made: the raw backbone is the same folder with the backbone's weights put in."""
    if not (folder / "modules.json").is_file():
        raise InputError(f"{folder}: has no modules.json, so it is no embedder; expected a finished folder")
    if model is None:
        raise InputError(f"{folder}: no {RECORD} in it, so its backbone is not known; name it with --model")
    backbone = load_backbone(model)
    embedder, raw = load_embedder(folder), load_embedder(folder)
    weights = AutoModel.from_pretrained(
        backbone.folder, dtype=raw.dtype, trust_remote_code=backbone.trust_remote_code
    ).state_dict()
    try:
        raw.transformers_model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"model {backbone.name}: its weights do not fit {folder}; expected the backbone it was made from"
        ) from error
    return Explained(embedder, raw, backbone.head().to(embedder.device), backbone.tokenizer)
