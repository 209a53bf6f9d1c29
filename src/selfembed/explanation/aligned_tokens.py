"""Aligned tokens: the vocabulary entries that an embedding decodes to.

Shapes: B texts, C texts of a chunk, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, WeightedLayerPooling
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedTokenizerBase

from selfembed.calibration.affine_map import without_map
from selfembed.encoding.encode import encode
from selfembed.errors import InputError
from selfembed.explanation.checks import require_decodable, require_texts
from selfembed.model.backbone import Backbone, LMHead, load_backbone, require_decoder
from selfembed.model.embedder import build_embedder, load_embedder, require_embedder
from selfembed.model.folder import RECORD, RunRecord
from selfembed.model.modes import turn_adapters_off

# Texts whose logits over the whole vocabulary are held at a time: 32 MB at a vocabulary of 128,000.
_CHUNK = 64

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
    """One of the top tokens of `softmax(W_lm e)`.

    Attributes:
        token: The token as it reads, leading space included.
        id: The token's place in the vocabulary.
        probability: The token's probability under the softmax over the whole vocabulary.
        in_text: Whether it is one of the text's own tokens, case and leading space aside.
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
    """Decodes texts to their top k aligned tokens, likeliest first.

    Args:
        embedder: Any SentenceTransformer over the backbone, its vectors not normalised.
        head: The raw backbone's decoder layer.
        tokenizer: The backbone's tokenizer, without the prompt.
        texts: The texts to embed.
        k: The number of tokens for each text.

    Returns:
        A list of k tokens for each text.

    Raises:
        InputError: There is no text or an empty one, `k` is outside the vocabulary, the head is missing or does not
            fit the embedder, or an embedding is zero, not finite or normalised.

    References:
        Nie et al. 2025 (arXiv 2406.17378); Text2Token, Tables 1, 4, 6 and 7.
    """
    texts = require_texts(texts)
    embedding_BD = torch.from_numpy(encode(embedder, texts)).to(embedder.device)
    return decode_vectors(embedding_BD, head, tokenizer, texts, k=k)


def decode_vectors(
    embedding_BD: Tensor, head: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, k: int = 10
) -> list[list[AlignedToken]]:
    """Decodes embeddings to their top k aligned tokens, as :func:`aligned_tokens` does.

    Args:
        embedding_BD: The embeddings, one for each text, not normalised.
        head: The raw backbone's decoder layer.
        tokenizer: The backbone's tokenizer, without the prompt.
        texts: The texts that were embedded.
        k: The number of tokens for each text.

    Raises:
        InputError: `k` is outside the vocabulary, the head is missing or does not fit, or an embedding is zero, not
            finite or normalised.
    """
    require_decodable(embedding_BD, head, k, texts)
    head.to(embedding_BD.device)
    top = [head(chunk_CD).softmax(-1).topk(k) for chunk_CD in embedding_BD.split(_CHUNK)]
    top_Bk, ids_Bk = (torch.cat(parts) for parts in zip(*top, strict=True))
    result = []
    for text, ids_k, top_k in zip(texts, ids_Bk.tolist(), top_Bk.tolist(), strict=True):
        forms = tokenizer([text, " " + text], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        own_ids = {i for ids in forms for i in ids}
        own = {bare(tokenizer.decode([i])) for i in own_ids}
        tokens = [(i, p, tokenizer.decode([i])) for i, p in zip(ids_k, top_k, strict=True)]
        result.append(
            [AlignedToken(token=token, id=i, probability=p, in_text=bare(token) in own) for i, p, token in tokens]
        )
    return result


def decodable(embedder: SentenceTransformer) -> SentenceTransformer:
    """Makes the embedder that gives what a decoder layer reads: final hidden states, of the last token where it can.

    An affine map is left out, and so are word embeddings that were added to the states; of several poolings the one of
    the last token is taken. Modules are shared.
    """
    unmapped = without_map(embedder)
    transformer, *behind = unmapped.children()
    plain = [module for module in behind if not isinstance(module, WeightedLayerPooling)]
    for place, module in enumerate(plain):
        if isinstance(module, Pooling) and not isinstance(module.pooling_mode, str):
            mode = "lasttoken" if "lasttoken" in module.pooling_mode else module.pooling_mode[0]
            plain[place] = Pooling(module.embedding_dimension, pooling_mode=mode)
    if plain == behind:
        return unmapped
    found = SentenceTransformer(modules=[transformer, *plain], device=str(embedder.device))
    found.max_seq_length = embedder.max_seq_length
    return found.eval()


def aligned_table(raw: Sequence[AlignedToken], trained: Sequence[AlignedToken]) -> list[str]:
    """Returns lines of two columns, the aligned tokens of one text before and after training."""
    lines = [f"  {'raw backbone':<32}embedder"]
    for left, right in zip(raw, trained, strict=True):
        cells = [
            f"{token.probability:6.1%} {'*' if token.in_text else ' '} {token.token!r}" for token in (left, right)
        ]
        lines.append(f"  {cells[0]:<32}{cells[1]:<32}".rstrip())
    return lines


def bare(token: str) -> str:
    """Takes a token's leading space off and lowers its case; white space alone stays as it is."""
    return token.strip().casefold() or token


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A finished embedder, the raw backbone read the same way, and the decoder layer they share.

    Attributes:
        embedder: The finished embedder.
        raw: The backbone before any training.
        head: The decoder layer, on the embedder's device.
        tokenizer: The backbone's tokenizer, without the prompt.
        backbone: The backbone that both were made from.
        record: The record of the run; None where selfembed did not make the folder.
    """

    embedder: SentenceTransformer
    raw: SentenceTransformer
    head: LMHead
    tokenizer: PreTrainedTokenizerBase
    backbone: Backbone
    record: RunRecord | None


def load_explained(
    folder: str | Path, *, model: str | Path | None = None, trust_remote_code: bool = False
) -> Explained:
    """Loads what is needed to explain an embedder.

    Args:
        folder: The folder of the embedder.
        model: The backbone that it was made from; None takes the one named in the record that selfembed left.
        trust_remote_code: Whether the backbone's own Python code may run.

    Returns:
        The embedder and its raw backbone, read the same way.

    Raises:
        InputError: There is no such embedder, or its backbone is not known, gone, or another.
    """
    folder = Path(folder)
    record = RunRecord.of_folder(folder)
    if record is None:
        return _load_unrecorded(folder, model, trust_remote_code)
    if record.adapted:
        raise InputError(
            f"embedder {folder}: adapted from {record.model}, a ready embedder, without a decoder layer to read words "
            "through; expected one that selfembed train has made of a language model; choose another"
        )
    backbone = load_backbone(model if model is not None else record.model, trust_remote_code=trust_remote_code)
    if backbone.fingerprint != record.model_fingerprint:
        raise InputError(
            f"model {backbone.name}: not the backbone {folder} was made from (its content differs); expected that "
            "one; name it (`model`)"
        )
    embedder = decodable(load_embedder(folder, trust_remote_code=trust_remote_code))
    raw = decodable(
        build_embedder(
            backbone,
            record.config,
            max_length=record.recipe["embed_length"],
            device=str(embedder.device),
            seed=record.seed,  # memory vectors as they were before training
        )
    )
    head = backbone.head()  # not the folder's own: a tied one has rows for memory tokens too
    return Explained(
        embedder=embedder,
        raw=raw,
        head=head.to(embedder.device),
        tokenizer=backbone.tokenizer,
        backbone=backbone,
        record=record,
    )


def _load_unrecorded(folder: Path, model: str | Path | None, trust_remote_code: bool) -> Explained:
    """Loads an embedder that others made; the raw backbone is the same folder with the backbone's weights put in.

    Rows of tokens that were added to the vocabulary stay the folder's, and adapters are off. A normalisation at the
    end is left out on both sides, because the decoder layer knows no normalised vectors.
    """
    if not folder.is_dir():
        raise InputError(
            f"embedder {folder}: no such folder; expected one that selfembed train has made; correct the path"
        )
    require_embedder(folder)
    if model is None:
        if (folder / "config.json").is_file():
            # an encoder has no decoder layer; no model would help
            require_decoder(Backbone(str(folder), folder, trust_remote_code))
        raise InputError(
            f"embedder {folder}: no {RECORD} in it, so its backbone is not known; expected that backbone; name it "
            "(`model`)"
        )
    backbone = load_backbone(model, trust_remote_code=trust_remote_code)
    embedder, raw = (decodable(load_embedder(folder, trust_remote_code=trust_remote_code)) for _ in range(2))
    for side in (embedder, raw):
        for place in [i for i, module in enumerate(side) if isinstance(module, Normalize)]:
            del side[place]
    weights = AutoModel.from_pretrained(
        backbone.folder, dtype=raw.dtype, trust_remote_code=backbone.trust_remote_code
    ).state_dict()
    turn_adapters_off(raw)
    own = raw.transformers_model.state_dict()
    places = {name.replace(".base_layer.", "."): place for name, place in own.items() if "lora_" not in name}
    if places.keys() != weights.keys() or any(
        places[name].shape[1:] != weight.shape[1:] or len(places[name]) < len(weight)
        for name, weight in weights.items()
    ):
        raise InputError(
            f"model {backbone.name}: its weights do not fit {folder}; expected the backbone it was made from; name "
            "that one (`model`)"
        )
    for name, weight in weights.items():
        places[name][: len(weight)] = weight
    return Explained(
        embedder=embedder,
        raw=raw,
        head=backbone.head().to(embedder.device),
        tokenizer=backbone.tokenizer,
        backbone=backbone,
        record=None,
    )
