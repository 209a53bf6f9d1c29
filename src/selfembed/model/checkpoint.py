"""A checkpoint on disk: which files it is, and the proof that all of a model's weights are in it and are numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig

from selfembed.errors import InputError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
HEAD = "lm_head.safetensors"  # the decoder layer of a finished embedder, whose own model has none
_LAYER = re.compile(r"(.*?)\.?(?<![^.])\d+\.")  # what stands before the first number in a tensor's name
_POOLER = "pooler."
_BUFFERS = ("inv_freq", "masked_bias")  # what old versions of transformers saved beside the weights


def weight_files(folder: Path) -> list[Path]:
    """Lists the files that transformers reads: one, or an index and the shards that it names, or none.

    Raises:
        InputError: The index cannot be read.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    index = folder / _INDEX
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        good = names and all(Path(name).name == name for name in names)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        good = False
    if not good:
        raise InputError(f"{index}: expected a weight_map of tensors to files beside it; download it again")
    return [index, *(folder / name for name in names)]


def read_tensors(files: Collection[Path], module: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Reads the tensors (`weight`, `bias`) of the module of one of these names that lies nearest to the root."""
    found: dict[str, tuple[int, Path, str]] = {}
    for file in files:
        if file.suffix != ".safetensors":
            continue
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (safe_open is no dict)
                *above, last = key.split(".")
                if above and above[-1] in module and (last not in found or len(above) < found[last][0]):
                    found[last] = len(above), file, key
    result = {}
    for last, (_, file, key) in found.items():
        with safe_open(file, framework="pt") as tensors:
            result[last] = tensors.get_tensor(key)
    return result


def require_plain(name: str, folder: Path, config: PretrainedConfig) -> None:
    """Refuses a folder that holds something else than a model's plain weights.

    Args:
        name: Name of the model, for messages.
        folder: Folder of the model.
        config: Configuration of the model.

    Raises:
        InputError: The folder holds an adapter, quantized weights or no safetensors, or a file is missing or damaged.
    """
    if (folder / "adapter_config.json").is_file():
        raise InputError(
            f"model {name}: {_adapter_of(folder)}; expected a whole model; merge it into that one (merge_and_unload)"
        )
    quantization = getattr(config, "quantization_config", None) or getattr(config, "compression_config", None)
    if quantization:
        settings = quantization if isinstance(quantization, dict) else quantization.to_dict()
        method = settings.get("quant_method", "unknown method")
        raise InputError(
            f"model {name}: its weights are quantized ({method}); expected float32, bfloat16 or float16; "
            "give the checkpoint it was made from, or a GGUF file"
        )
    files = weight_files(folder)
    if not files:
        others = sorted(file.name for pattern in ("*.bin", "*.safetensors") for file in folder.glob(pattern))
        raise InputError(
            f"model {name}: no {_SINGLE} and no {_INDEX} in {folder}{f' (only {others[0]})' if others else ''}; "
            "expected one of them; load it once with transformers and save_pretrained it"
        )
    for file in files:
        if not file.is_file():
            raise InputError(f"model {name}: {file.name} is missing, which {_INDEX} names; download it again")
        if file.suffix == ".safetensors":
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"model {name}: {file.name} is damaged ({error}); expected a whole file; copy or download it again"
                ) from error


def _adapter_of(folder: Path) -> str:
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError):
        base = None
    return f"an adapter of {base or 'another model'}, not a model"


def require_whole(name: str, folder: Path, *, trust_remote_code: bool = False, head: bool = True) -> None:
    """Proves that a checkpoint holds every weight of its model, and that all are finite.

    transformers fills missing weights with random numbers. Nothing is loaded to find them: transformers compares names
    and shapes on the meta device. Tied weights, and those that a family can do without, are not missing.

    Args:
        name: Name of the model, for messages.
        folder: Folder of the model.
        trust_remote_code: Whether the folder's own Python code may run.
        head: Whether it is to be a language model, with its decoder layer; else any model without a head, which may
            also lack its pooler, as that is left out.

    Raises:
        InputError: Weights are missing or of another shape, the configuration leaves layers or parts of them out, or
            a value is not finite.
    """
    files = [*weight_files(folder), folder / "config.json", *folder.glob(HEAD)]
    stamps = tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    trouble = _trouble(folder, trust_remote_code, stamps, head)
    if trouble:
        raise InputError(f"model {name}: {trouble}")


@lru_cache(maxsize=64)
def _trouble(folder: Path, trust_remote_code: bool, stamps: tuple[Any, ...], head: bool) -> str | None:
    """Says what is wrong with a checkpoint; `stamps` change when its files do."""
    try:
        info = _loading_info(folder, trust_remote_code, AutoModelForCausalLM if head else AutoModel)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return f"transformers cannot load its weights ({reason}); expected a whole checkpoint of that architecture"
    missing = set(info["missing_keys"])
    if not head:
        missing = {key for key in missing if not key.startswith(_POOLER)}
    if missing and (folder / HEAD).is_file():
        missing -= {f"lm_head.{kind}" for kind in read_tensors([folder / HEAD], ("lm_head",))}
    if missing:
        return (
            f"{listed(missing)} missing in its weights, which would be random numbers; expected a checkpoint of the "
            f"whole {'language ' if head else ''}model; download or convert it again"
        )
    if info["mismatched_keys"]:
        key, stored, expected = sorted(info["mismatched_keys"])[0]
        return (
            f"{key} is {list(stored)} in its weights, {list(expected)} by its config.json; "
            "expected the config.json that belongs to the weights"
        )
    unexpected = set(info["unexpected_keys"])
    return _left_out(folder, info["layers"], unexpected) or _not_finite(folder, unexpected)


def _loading_info(folder: Path, trust_remote_code: bool, kind: Any) -> dict[str, Any]:
    options = {
        "trust_remote_code": trust_remote_code,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are reported, with names
    }
    try:
        model, info = kind.from_pretrained(folder, device_map="meta", **options)
    except Exception:
        if not trust_remote_code:
            raise
        model, info = kind.from_pretrained(folder, **options)  # code that knows no meta device
    return {**info, "layers": {match[1] for key, _ in model.named_parameters() if (match := _LAYER.match(key))}}


def listed(names: Collection[str]) -> str:
    """Names some of the names and their number, followed by "is" or "are"."""
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} is" if len(names) == 1 else f"{shown}{', ...' if len(names) > 3 else ''} ({len(names)}) are"


def _left_out(folder: Path, layers: set[str], unexpected: set[str]) -> str | None:
    """Names weights inside the model's layers that the model has no place for: it is not the checkpoint's model.

    Weights elsewhere (a vision tower, a second head) are no part of the language model.
    """
    left = set()
    for file in weight_files(folder):
        if not unexpected or file.suffix != ".safetensors":
            continue
        with safe_open(file, framework="pt") as tensors:
            for key in unexpected.intersection(tensors.keys()):
                match = _LAYER.match(key)
                tensor = tensors.get_slice(key)
                mask = len(tensor.get_shape()) > 2 or tensor.get_dtype() in ("BOOL", "U8") or key.endswith(_BUFFERS)
                if match and match[1] in layers and not mask:
                    left.add(key)
    if not left:
        return None
    return (
        f"{listed(left)} in its weights, but not in the model of its config.json, which would be another; "
        "expected the config.json that belongs to the weights"
    )


def _not_finite(folder: Path, unexpected: set[str]) -> str | None:
    for file in weight_files(folder):
        if file.suffix != ".safetensors":
            continue
        with safe_open(file, framework="pt") as tensors:
            for key in sorted(set(tensors.keys()) - unexpected):
                tensor = tensors.get_tensor(key)
                if not tensor.is_floating_point() or not tensor.numel():
                    continue
                if tensor.dtype.itemsize < 2:
                    kind = str(tensor.dtype).removeprefix("torch.")
                    return f"{key} is {kind}, which is quantized; expected float32, bfloat16 or float16"
                if not all(bound.isfinite() for bound in tensor.aminmax()):
                    return f"{key} holds infinity or NaN; expected numbers; download or convert it again"
    return None
