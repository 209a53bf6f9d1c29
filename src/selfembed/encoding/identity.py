"""What an embedder's vectors depend on, as one hash."""

from __future__ import annotations

import hashlib
import json
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
    """The tokenizer's own file, without what each call sets anew."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        described = json.loads(backend.to_str())
        if getattr(tokenizer, "split_special_tokens", False):
            described["split_special_tokens"] = True  # in no tokenizer.json
        return {key: value for key, value in described.items() if key not in ("truncation", "padding")}
    return getattr(tokenizer, "get_vocab", dict)()
