"""Memory tokens: vectors of their own beside a frozen vocabulary, and what a decoder reads from them (LLM2Comp).

The vectors stand apart from the embedding matrix, which is therefore neither trained nor decayed, nor copied, and
stays what a tied decoder layer needs. Only a finished embedder has them as rows of its matrix.

Shapes: B batch, T tokens, L tokens of a continuation, K memory tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from selfembed.errors import InputError
from selfembed.ground.options import check_value
from selfembed.model.device import precise_dtype
from selfembed.model.modes import decoder_of
from selfembed.model.pooling import select_memory

MemoryInit = Literal["mean", "normal", "eos", "prompt"]

# What memory tokens may start as, the last of them at the end: a decoder goes on with what the text is about.
MEMORY_PROMPT = '. What, in short, does it say? The passage above means in one word: "'
# Of the rows' standard deviation per dimension: enough to tell the tokens apart, little beside a word.
NOISE = 0.1
_CHUNK_ROWS = 8192


class MemoryEmbedding(nn.Module):
    """An input embedding with a matrix of its own for memory tokens beside the frozen one of the vocabulary.

    All other ids give the same, bit for bit, as the original module. Memory vectors are float32 while they are
    trained, used in the model's dtype, and scaled as the model scales its words (Gemma).

    Args:
        vocabulary: The original module, whose weight becomes this module's `weight`, shared and frozen.
        rows_KD: Start of the memory vectors, in the units of the vocabulary's rows.
        first_id: Id of the first memory token; the others follow.

    Attributes:
        weight: The vocabulary, [V, D], frozen.
        memory: The memory vectors, [K, D], float32, trainable.

    Raises:
        InputError: The original module does more than look up and scale.
    """

    scale: Tensor  # a buffer

    def __init__(self, vocabulary: nn.Embedding, rows_KD: Tensor, first_id: int) -> None:
        super().__init__()
        self.weight = vocabulary.weight.requires_grad_(False)
        self.memory = nn.Parameter(rows_KD.to(vocabulary.weight.device, torch.float32))
        self.first_id = first_id
        scale = getattr(vocabulary, "embed_scale", 1.0)
        self.register_buffer("scale", torch.as_tensor(scale, device=vocabulary.weight.device), persistent=False)
        self.register_load_state_dict_pre_hook(_keep_memory)  # type: ignore[no-untyped-call]
        last = min(len(self.weight), first_id) - 1
        ids_T = torch.tensor([0, last // 2, last], device=self.weight.device)
        if not torch.equal(self(ids_T), vocabulary(ids_T)):
            raise InputError(
                f"input embedding {type(vocabulary).__name__}: does more than look up and scale, so memory tokens "
                "cannot stand beside its rows; use another backbone, or a recipe without memory tokens"
            )

    @property
    def memory_tokens(self) -> int:
        return len(self.memory)

    @property
    def embedding_dim(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def word_length(self) -> float:
        """Mean Euclidean norm of the words' input embeddings."""
        chunks = self.weight[: self.first_id].split(_CHUNK_ROWS)
        total = sum(chunk.float().norm(dim=1).sum(dtype=precise_dtype(self.weight.device)) for chunk in chunks)
        return float(total / sum(map(len, chunks)) * self.scale.abs())

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Looks up input embeddings, [B, T, D]."""
        offset_BT = ids_BT - self.first_id
        memory_BT = (offset_BT >= 0) & (offset_BT < len(self.memory))
        words_BTD = nn.functional.embedding(ids_BT.masked_fill(memory_BT, 0), self.weight)
        memory_KD = self.memory.to(self.weight.dtype)
        memory_BTD = nn.functional.embedding(offset_BT.clamp(0, len(self.memory) - 1), memory_KD)
        return torch.where(memory_BT[..., None], memory_BTD, words_BTD) * self.scale.to(self.weight.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, {self.embedding_dim}, memory_tokens={len(self.memory)}, first_id={self.first_id}"


def _keep_memory(module: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Keeps the memory vectors, which a trainer's checkpoint lacks: it holds the backbone's own matrix."""
    memory: Any = module.memory
    state_dict.setdefault(f"{prefix}memory", memory.detach())


def initial_memory(
    weight_VD: Tensor,
    memory_tokens: int,
    *,
    init: MemoryInit = "mean",
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Tensor:
    """Makes the vectors that memory tokens start from.

    Args:
        weight_VD: Rows of the vocabulary that are in use.
        memory_tokens: Number of memory tokens, K.
        init: `"mean"` takes the mean row plus noise of `NOISE` times the rows' standard deviation, per dimension;
            `"normal"` draws from a normal distribution with the rows' mean and variances; `"eos"` takes the row of
            the end-of-sequence token plus the same noise; `"prompt"` takes the rows of the last K tokens of
            `MEMORY_PROMPT`, so that a causal backbone's states there are those of a prompt from the start.
        seed: Seed for the noise; the global generator is not used.
        tokenizer: Tokenizer of the backbone, needed for `"eos"` and `"prompt"`.

    Returns:
        `rows_KD`, float32, on the CPU.

    Raises:
        InputError: `init` is unknown, there is no end-of-sequence token, or the prompt has fewer than K tokens.
    """
    check_value("memory_init", init, MemoryInit)
    if init == "prompt":
        assert tokenizer is not None
        ids = tokenizer(MEMORY_PROMPT, add_special_tokens=False)["input_ids"]
        if len(ids) < memory_tokens:
            raise InputError(
                f"memory_init 'prompt': the prompt has {len(ids)} tokens and cannot start {memory_tokens} memory "
                f"tokens; expected at most {len(ids)}; use fewer, or 'mean' or 'normal'"
            )
        return weight_VD[ids[-memory_tokens:]].detach().float().cpu()
    mean_D, deviation_D = _moments(weight_VD.detach())
    generator = torch.Generator().manual_seed(seed)
    noise_KD = torch.randn(memory_tokens, len(mean_D), generator=generator) * deviation_D
    if init == "normal":
        return mean_D + noise_KD
    if init == "mean":
        return mean_D + NOISE * noise_KD
    assert tokenizer is not None
    if tokenizer.eos_token_id is None:
        raise InputError("memory_init 'eos': the tokenizer has no end-of-sequence token; use 'mean' or 'normal'")
    return weight_VD[tokenizer.eos_token_id].detach().float().cpu() + NOISE * noise_KD


def _moments(weight_VD: Tensor) -> tuple[Tensor, Tensor]:
    """Computes mean and standard deviation per dimension, in float64, without a float copy of a large matrix."""
    chunks = weight_VD.split(_CHUNK_ROWS)
    dtype = precise_dtype(weight_VD.device)
    mean_D = sum(chunk.sum(0, dtype=dtype) for chunk in chunks) / len(weight_VD)
    variance_D = sum((chunk.to(dtype) - mean_D).square().sum(0) for chunk in chunks) / len(weight_VD)
    return mean_D.float().cpu(), variance_D.sqrt().float().cpu()


def add_memory_tokens(
    model: PreTrainedModel,
    memory_tokens: int,
    first_id: int,
    *,
    init: MemoryInit = "mean",
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> MemoryEmbedding:
    """Gives a model memory tokens, in place; for the arguments see :func:`initial_memory`.

    Call it before or after `add_adapter`; that freezes all but the adapter, so set `memory.requires_grad` after it.

    Raises:
        InputError: See :class:`MemoryEmbedding` and :func:`initial_memory`.
    """
    vocabulary = model.get_input_embeddings()
    rows_KD = initial_memory(vocabulary.weight[:first_id], memory_tokens, init=init, seed=seed, tokenizer=tokenizer)
    embedding = MemoryEmbedding(vocabulary, rows_KD, first_id)
    model.set_input_embeddings(embedding)
    return embedding


def memory_embedding(model: nn.Module) -> MemoryEmbedding:
    """Finds the memory embedding of an embedder.

    Raises:
        InputError: The embedder has no memory tokens.
    """
    embedding = decoder_of(model).get_input_embeddings()
    if not isinstance(embedding, MemoryEmbedding):
        raise InputError("embedder: has no memory tokens; build it with memory_tokens=8 and pooling='memory'")
    return embedding


def memory_states(model: nn.Module, features: dict[str, Tensor]) -> Tensor:
    """Takes the final hidden states at the memory tokens, after the last norm: the compressed text.

    Args:
        model: An embedder with memory tokens.
        features: What the embedder returned for a batch: `input_ids` [B, T] and `token_embeddings` [B, T, D].

    Returns:
        `states_BKD`, with their gradient.

    Raises:
        InputError: The embedder has no memory tokens.
        ValueError: A text has more or fewer of them than the embedder.
    """
    embedding = memory_embedding(model)
    return select_memory(features, embedding.first_id, embedding.memory_tokens)


def decoder_inputs(model: nn.Module, states_BKD: Tensor, ids_BL: Tensor, *, bos_id: int | None) -> Tensor:
    """Makes what the decoder reads: [BOS, memory vectors, continuation], as input embeddings, without a projection.

    The final hidden state at position K, the last memory token's, predicts the continuation's first token, and that at
    K + L what comes after its last token.

    Args:
        model: The embedder.
        states_BKD: Memory vectors, see :func:`memory_states`.
        ids_BL: Ids of the continuation, padded on the right.
        bos_id: The backbone's beginning-of-sequence token.

    Returns:
        `inputs_BTD` with T = 1 + K + L, in the model's dtype, with the gradient of `states_BKD`.

    Raises:
        InputError: There is no such token, or the memory vectors have another width than input embeddings.
    """
    if bos_id is None:
        raise InputError(
            "tokenizer: no beginning-of-sequence token; expected one, which the decoder reads before memory vectors; "
            "set one (tokenizer.bos_token) or use another backbone"
        )
    embedding = decoder_of(model).get_input_embeddings()
    width = embedding.weight.shape[1]
    if states_BKD.shape[-1] != width:
        raise InputError(
            f"hidden states of width {states_BKD.shape[-1]}: cannot be read as input embeddings of width {width}; "
            "expected equal widths; use a backbone that has them"
        )
    bos_B1 = ids_BL.new_full((len(ids_BL), 1), bos_id)
    memory_BKD = states_BKD.to(embedding.weight.dtype)
    return torch.cat([embedding(bos_B1), memory_BKD, embedding(ids_BL)], 1)


def write_memory(model: PreTrainedModel, embedding: MemoryEmbedding) -> None:
    """Writes memory vectors into a plain model's own input embedding, in place, so that it needs no code of ours.

    Spare rows that no token uses are taken first; then the matrix grows up to the last memory id.
    """
    last = embedding.first_id + embedding.memory_tokens
    old = len(model.get_input_embeddings().weight)
    if last > old:
        model.resize_token_embeddings(last, mean_resizing=False)
    with torch.no_grad():
        weight_VD = model.get_input_embeddings().weight
        weight_VD[old:] = 0
        weight_VD[embedding.first_id : last] = embedding.memory.to(weight_VD.device, weight_VD.dtype)
