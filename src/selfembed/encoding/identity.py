"""What an embedder's vectors depend on, as one hash."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from sentence_transformers import SentenceTransformer


def embedder_hash(embedder: SentenceTransformer) -> str:
    """Hashes all that an embedder's vectors depend on to 64 hex digits (SHA-256).

    That is: weights, whether adapters are on, the modules and their settings, attention, tokenizer, maximum length,
    prompts. The same folder on another machine has the same hash; its name and place do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(embedder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    digest.update(json.dumps(_description(embedder), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _description(embedder: SentenceTransformer) -> dict[str, Any]:
    """What is not in the weights."""
    modules = []
    for module in embedder:
        settings = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
        modules.append([type(module).__name__, settings])
    switches = {}
    for name, module in embedder.named_modules():
        if isinstance(module, BaseTunerLayer):
            switches[name] = [list(module.active_adapters), module.disable_adapters, module.merged]
        if "is_causal" in vars(module):
            switches[f"{name}.is_causal"] = vars(module)["is_causal"]
    config = getattr(embedder.transformers_model, "config", None)
    config = config.to_dict() if config is not None else {}
    names = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")  # where from and written by what
    return {
        "modules": modules,
        "switches": switches,
        "config": {key: value for key, value in config.items() if key not in names},
        "tokenizer": _tokenizer_description(embedder.tokenizer),
        "max_length": embedder.max_seq_length,
        "truncate_dim": embedder.truncate_dim,
        "prompts": embedder.prompts,
        "default_prompt": embedder.default_prompt_name,
    }


def _tokenizer_description(tokenizer: Any) -> Any:
    """The tokenizer's own file, without what each call sets anew; all its files where it is a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        described = json.loads(backend.to_str())
        described = {key: value for key, value in described.items() if key not in ("truncation", "padding")}
    elif hasattr(tokenizer, "save_pretrained"):
        described = _files_of_slow(tokenizer)
    else:
        described = dict(getattr(tokenizer, "get_vocab", dict)())
    # What is in no tokenizer.json, where it differs from what most have: sentence-transformers wraps texts in a chat
    # template, and a model that counts positions sees on which side padding stands.
    for name, usual in (("split_special_tokens", False), ("chat_template", None), ("padding_side", "right")):
        value = getattr(tokenizer, name, usual)
        if value != usual:
            described[name] = value
    return described


def _files_of_slow(tokenizer: Any) -> dict[str, Any]:
    """What a tokenizer without a tokenizer.json saves, by file."""
    described: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in Path(folder).iterdir():
            if file.name == "tokenizer_config.json":
                settings = json.loads(file.read_text())
                places = [key for key in settings if key.endswith(("_file", "name_or_path"))]
                described[file.name] = {key: value for key, value in settings.items() if key not in places}
            else:
                described[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return described
