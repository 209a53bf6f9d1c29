"""Mean over the memory tokens of a text: a module for sentence-transformers.

A finished embedder with several memory tokens carries a copy of this file, so that it works where selfembed is not
installed. The file therefore needs nothing but torch and sentence-transformers.

Shapes: B batch, T tokens, K memory tokens, D hidden.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

# The copy beside the weights, and how modules.json calls the class in it.
FILE = "memory_pooling.py"
TYPE = "memory_pooling.MemoryPooling"


def select_memory(features: dict[str, Tensor], first_id: int, memory_tokens: int) -> Tensor:
    """Takes the hidden states at the memory tokens.

    They are found by their ids, not counted from the end. That works with padding on either side and in batches
    flattened without padding, and shows where memory tokens are missing.

    Args:
        features: Features with `input_ids` [B, T] and `token_embeddings` [B, T, D].
        first_id: Id of the first memory token; the others follow.
        memory_tokens: Number of memory tokens of every text, K.

    Returns:
        `states_BKD`.

    Raises:
        ValueError: There are no `input_ids`, or a text has more or fewer memory tokens.
    """
    if "input_ids" not in features:
        raise ValueError("memory pooling: expected the token ids of its texts; give input_ids, not inputs_embeds")
    ids_BT, hidden_BTD = features["input_ids"], features["token_embeddings"]
    memory_BT = (ids_BT >= first_id) & (ids_BT < first_id + memory_tokens)
    counts_B = memory_BT.sum(-1)
    expected = memory_tokens
    if "cu_seq_lens_q" in features:  # one row with all texts in a line
        expected *= features["cu_seq_lens_q"].numel() - 1
    if bool((counts_B != expected).any()):
        raise ValueError(
            f"found {counts_B.tolist()} memory tokens per row, expected {expected} (ids {first_id} to "
            f"{first_id + memory_tokens - 1}); encode texts with this folder's own tokenizer, which appends them"
        )
    states_BKD: Tensor = hidden_BTD[memory_BT].unflatten(0, (-1, memory_tokens))
    return states_BKD


class MemoryPooling(Module):
    """Pooling by the mean over the hidden states of the memory tokens alone (LLM2Comp).

    Args:
        embedding_dimension: Width of the hidden states, D.
        first_id: Id of the first memory token; the others follow. They stand at the end of every text.
        memory_tokens: Number of memory tokens of every text, K.

    References:
        LLM2Comp, arXiv 2511.17129.
    """

    config_keys = ["embedding_dimension", "first_id", "memory_tokens"]

    def __init__(self, embedding_dimension: int, first_id: int, memory_tokens: int) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.first_id = first_id
        self.memory_tokens = memory_tokens

    def forward(self, features: dict[str, Tensor | Any], **kwargs: Any) -> dict[str, Tensor | Any]:
        """Adds `sentence_embedding` [B, D], averaged in float32.

        Raises:
            ValueError: There are no `input_ids`, or a text has more or fewer memory tokens.
        """
        states_BKD = select_memory(features, self.first_id, self.memory_tokens)
        features["sentence_embedding"] = states_BKD.mean(1, dtype=torch.float32).to(states_BKD.dtype)
        return features

    def get_embedding_dimension(self) -> int:
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Writes the settings into the module's folder, and this file beside it, where it will be imported from."""
        self.save_config(output_path)
        shutil.copyfile(__file__, Path(output_path).parent / FILE)
