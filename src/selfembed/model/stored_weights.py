"""In which dtype a finished folder's weights lie on disk, while its config.json says in which one they are computed.

transformers and sentence-transformers load weights in the dtype that config.json names, whatever the files hold. So
16 bits on disk halve the folder and cost no time on a processor that cannot compute in 16 bits.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from selfembed.errors import InputError
from selfembed.ground.files import write_json
from selfembed.model.checkpoint import HEAD, weight_files

STORED_DTYPES = ("auto", "float32", "float16", "bfloat16")
_LARGEST = torch.finfo(torch.float16).max


def stored_dtype(model: nn.Module, wanted: str) -> torch.dtype:
    """Chooses the dtype that a model's weights are stored in.

    Args:
        model: The model, in the dtype that it is computed in.
        wanted: One of :data:`STORED_DTYPES`; `"auto"` stores what is computed in float32 as float16, where no weight
            is beyond its range, and anything else as it is.

    Raises:
        InputError: `"float16"` is wanted, and a weight is beyond its range.
    """
    computed = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    if wanted not in ("auto", "float16") or (wanted == "auto" and computed != torch.float32):
        return computed if wanted == "auto" else getattr(torch, wanted)
    fits = all(parameter.detach().abs().max() <= _LARGEST for parameter in model.parameters() if parameter.numel())
    if not fits and wanted == "float16":
        raise InputError(
            "saved_dtype float16: a weight is beyond its range (65504); expected weights within; use "
            "`saved_dtype='bfloat16'`, or 'float32'"
        )
    return torch.float16 if fits else computed


def store_weights(folder: Path, dtype: torch.dtype) -> None:
    """Writes the weights of a model's folder in another dtype; its config.json stays, and with it how it computes."""
    files = weight_files(folder)
    for file in [*files, folder / HEAD]:
        if file.suffix != ".safetensors" or not file.is_file():
            continue
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata()
        tensors = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        part = file.with_suffix(".part")  # what load_file has mapped must not be written over
        save_file(tensors, part, metadata=about)
        part.replace(file)
    if files and files[0].suffix == ".json":
        index = json.loads(files[0].read_text())
        index["metadata"]["total_size"] = sum(_size(file) for file in files[1:])
        write_json(files[0], index)


def dtype_of_folder(folder: Path) -> torch.dtype:
    """Reads the dtype that a model's weights lie in: that of the largest tensor of the first file."""
    file = next(file for file in weight_files(folder) if file.suffix == ".safetensors")
    dtype: torch.dtype = max(load_file(file).values(), key=lambda tensor: tensor.numel()).dtype
    return dtype


def _size(file: Path) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in load_file(file).values())
