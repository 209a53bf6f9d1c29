"""The adapter of an embedder in training: put on, written, read back."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import nn

from selfembed.ground.files import arriving_file
from selfembed.model.lora import Lora, lora_config


def add_trainable_adapter(embedder: SentenceTransformer, lora: Lora) -> None:
    """Puts LoRA in float32 on frozen weights of any dtype."""
    embedder.add_adapter(lora_config(embedder.transformers_model, lora))
    for parameter in adapter_parameters(embedder):
        parameter.data = parameter.data.float()


def adapter_parameters(embedder: SentenceTransformer) -> list[nn.Parameter]:
    """Lists the parameters that are trained."""
    return [parameter for parameter in embedder.parameters() if parameter.requires_grad]


def save_adapter(embedder: SentenceTransformer, file: Path) -> None:
    """Writes the trained parameters, under their names in the model, to a safetensors file."""
    trained = {name: p.detach().cpu().contiguous() for name, p in embedder.named_parameters() if p.requires_grad}
    with arriving_file(file) as staging:
        save_file(trained, staging)


def load_adapter(embedder: SentenceTransformer, file: Path) -> None:
    """Reads what :func:`save_adapter` wrote."""
    parameters = dict(embedder.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(file).items():
            parameters[name].copy_(tensor)
