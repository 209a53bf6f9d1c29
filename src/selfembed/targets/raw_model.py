"""What a raw model's distributions depend on: weights, tokenizer, modules and decoder layer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import nn

from selfembed.ground.hashing import content_hash, tensors_hash
from selfembed.model.backbone import LMHead
from selfembed.model.tokenizer import tokenizer_hash

_WRITTEN_BY = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")  # and where: not what is computed


def raw_model_state(embedder: SentenceTransformer, head: LMHead) -> list[Any]:
    """Collects what :func:`selfembed.targets.model_derived.raw_log_probabilities` depends on, as hashes and settings.

    The weights are those of the loaded model, so that what earlier stages have merged into them counts. Adapters do
    not count: they are off.
    """
    model = embedder.transformers_model
    config = {name: value for name, value in model.config.to_dict().items() if name not in _WRITTEN_BY}
    config["is_causal"] = bool(getattr(model.config, "is_causal", True))
    return [
        tensors_hash(raw_tensors(embedder)),
        content_hash(json.dumps(config, sort_keys=True, default=str)),
        str(embedder),  # its modules and their settings
        [tokenizer_hash(embedder.tokenizer), embedder.max_seq_length],
        [str(embedder.dtype), embedder.device.type],
        [tensors_hash(head.named_buffers()), head.scale, head.soft_cap, str(head.dtype)],
    ]


def raw_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields parameters and buffers under their names before adapters were added, without the adapters' own."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        parts = name.split(".")
        if not any(part.startswith("lora_") for part in parts):
            yield ".".join(part for part in parts if part != "base_layer"), tensor
