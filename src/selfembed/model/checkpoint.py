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
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PretrainedConfig

from selfembed.errors import InputError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
HEAD = "lm_head.safetensors"  # the decoder layer of a finished embedder, whose own model has none
_LAYER = re.compile(r"(.*?)\.?(?<![^.])\d+\.")  # what stands before the first number in a tensor's name
_POINTER = b"version https://git-lfs.github.com/spec/"
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
    require_no_adapter(name, folder)
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
    if trouble := _damaged(files):
        raise InputError(f"model {name}: {trouble}")


def _damaged(files: Collection[Path]) -> str | None:
    """Says which of the files is missing, or is no whole safetensors file; only their heads are read."""
    for file in files:
        if not file.is_file():
            return f"{file.name} is missing, which {_INDEX} names; download it again"
        if file.suffix == ".safetensors":
            with file.open("rb") as stream:
                if stream.read(len(_POINTER)) == _POINTER:
                    return f"{file.name} is a Git LFS pointer; expected the weights themselves; run git lfs pull"
            try:
                with safe_open(file, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                return f"{file.name} is damaged ({error}); expected a whole file; copy or download it again"
    return None


def require_no_adapter(name: str, folder: Path) -> None:
    """Refuses the folder of an adapter, with or without the config.json of its base.

    Raises:
        InputError: The folder holds an adapter; the message names its base.
    """
    if not (folder / "adapter_config.json").is_file():
        return
    try:
        base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, TypeError, KeyError):
        base = None
    raise InputError(
        f"model {name}: an adapter of {base or 'another model'}, not a model; expected a whole model; "
        "merge it into that one (merge_and_unload)"
    )


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
    trouble = _trouble(folder, trust_remote_code, _stamps(folder), head)
    if trouble:
        raise InputError(f"model {name}: {trouble}")


def _stamps(folder: Path) -> tuple[Any, ...]:
    """Changes when the files do that decide what is loaded."""
    files = [*weight_files(folder), folder / "config.json", *folder.glob(HEAD)]
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@lru_cache(maxsize=64)
def _trouble(folder: Path, trust_remote_code: bool, stamps: tuple[Any, ...], head: bool) -> str | None:
    """Says what is wrong with a checkpoint; `stamps` change when its files do."""
    try:
        info = _loading_info(AutoModelForCausalLM if head else AutoModel, folder, trust_remote_code)
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return f"transformers cannot load its weights ({reason}); expected a whole checkpoint of that architecture"
    missing = set(info["missing_keys"])
    if not head:
        missing = _without_pooler(missing)
    if missing and (folder / HEAD).is_file():
        missing -= {f"lm_head.{kind}" for kind in read_tensors([folder / HEAD], ("lm_head",))}
    return _misfit(folder, info, missing) or _not_finite(folder, set(info["unexpected_keys"]))


def _misfit(folder: Path, info: dict[str, Any], missing: Collection[str]) -> str | None:
    """Says which weights the model lacks, or has of another shape, or which of the checkpoint it leaves out."""
    if missing:
        return (
            f"{listed(missing)} missing in its weights, which would be random numbers; expected a checkpoint of the "
            "whole model; copy, download or convert it again"
        )
    if info["mismatched_keys"]:
        key, stored, expected = sorted(info["mismatched_keys"])[0]
        return (
            f"{key} is {list(stored)} in its weights, {list(expected)} by its config.json; "
            "expected the config.json that belongs to the weights"
        )
    return _left_out(folder, info["layers"], set(info["unexpected_keys"]))


def require_whole_embedder(folder: Path, *, trust_remote_code: bool = False) -> None:
    """Proves that an embedder's folder holds every weight of its modules; only the heads of its files are read.

    What else keeps the folder from being loaded is left to sentence-transformers, and so are encoder-decoders, of
    which it loads one half. Whether weights are finite is seen once they are loaded, see :func:`require_finite`.

    Args:
        folder: Folder with a modules.json.
        trust_remote_code: Whether the folder's own Python code may run.

    Raises:
        InputError: Weights are missing, damaged or of another shape, or the configuration leaves some of them out.
    """
    try:
        modules = [
            (str(module["type"]).rpartition(".")[2], folder / module["path"])
            for module in json.loads((folder / "modules.json").read_text())
        ]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for kind, place in modules:
        if kind == "Transformer" and not (place / "adapter_config.json").is_file():
            files, needed = weight_files(place), True
        else:
            files, needed = [file for file in (place / _SINGLE,) if file.is_file()], kind in ("Dense", "LayerNorm")
        if needed and not files and not list(place.glob("*.bin")):
            raise InputError(f"embedder {place}: no {_SINGLE} in it; expected the weights of {kind}; copy it again")
        trouble = _damaged(files)
        if kind == "Transformer" and files and not trouble:
            trouble = _embedder_trouble(place, trust_remote_code, _stamps(place))
        if trouble:
            raise InputError(f"embedder {place}: {trouble}")


@lru_cache(maxsize=64)
def _embedder_trouble(folder: Path, trust_remote_code: bool, stamps: tuple[Any, ...]) -> str | None:
    """Says what is wrong with the weights of a Transformer module; `stamps` change when its files do."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        if getattr(config, "is_encoder_decoder", False):
            return None
        info = _loading_info(AutoModel, folder, trust_remote_code, meta_only=True)
    except Exception:
        return None
    return _misfit(folder, info, _without_pooler(info["missing_keys"]))


def _without_pooler(missing: Collection[str]) -> set[str]:
    """Many encoders are saved without a pooler, which sentence-transformers does not read."""
    return {key for key in missing if "pooler" not in key.split(".")}


def require_finite(name: str, model: nn.Module) -> None:
    """Proves that all weights of a loaded model are finite.

    Args:
        name: What is loaded, for messages.
        model: The model, on any device.

    Raises:
        InputError: A value is not finite.
    """
    for key, weight in model.named_parameters():
        if weight.is_meta or not weight.is_floating_point() or not weight.numel() or weight.dtype.itemsize < 2:
            continue
        if not all(bound.isfinite() for bound in weight.detach().aminmax()):
            raise InputError(f"{name}: {key} holds infinity or NaN; expected numbers; copy it again, or train it anew")


def _loading_info(kind: Any, folder: Path, trust_remote_code: bool, *, meta_only: bool = False) -> dict[str, Any]:
    """What loading as this auto class comes upon: missing, unexpected and mismatched keys, and names of layers."""
    options = {
        "trust_remote_code": trust_remote_code,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are reported, with names
    }
    try:
        model, info = kind.from_pretrained(folder, device_map="meta", **options)
    except Exception:
        if not trust_remote_code or meta_only:
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
                if not tensor.numel() or not (tensor.is_floating_point() or key.endswith(".weight")):
                    continue  # counters and masks are whole numbers
                if tensor.dtype.itemsize < 2 or not tensor.is_floating_point():
                    kind = str(tensor.dtype).removeprefix("torch.")
                    return f"{key} is {kind}, which is quantized; expected float32, bfloat16 or float16"
                if not all(bound.isfinite() for bound in tensor.aminmax()):
                    return f"{key} holds infinity or NaN; expected numbers; download or convert it again"
    return None
