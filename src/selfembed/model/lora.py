"""Low-rank adapters: their numbers, and the linear layers of a model that get one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options

ALL_LINEAR = ("all-linear",)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (Hu et al. 2022). Defaults: Text2Token §5.1.

    Args:
        r: Rank of the update.
        alpha: Scale of the update, which is multiplied by alpha / r.
        dropout: Dropout on the adapter's input, the only one in training.
        targets: Names of linear layers; the default is the query and value projections, or the fused projection that
            holds them where a family has no separate ones. `"all-linear"` alone stands for all that the layers of the
            family have, by whatever names.
        top_layers: Share of the layers, from the top, that get adapters. The layers below need no backward pass and
            keep no activations.

    Raises:
        InputError: A value is of another kind or outside its range.
    """

    r: Annotated[int, Range(least=1)] = 16
    alpha: Annotated[int, Range(least=1)] = 32
    dropout: Annotated[float, Range(least=0, below=1)] = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    top_layers: Annotated[float, Range(above=0, most=1)] = 1.0

    def __post_init__(self) -> None:
        check_options(self)


def lora_config(model: PreTrainedModel, lora: Lora) -> LoraConfig:
    """Makes peft's configuration of a :class:`Lora` for one model.

    Raises:
        InputError: A target is not in the model.
    """
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if list(module.parameters(False))}
    wanted = _linear_names(model) if lora.targets == ALL_LINEAR else lora.targets
    targets: list[str] | None = [name for name in wanted if name in linear]
    missing = sorted(set(wanted) - linear)
    if missing and lora.targets == Lora.targets:
        fused = [name for name in ("c_attn", "query_key_value", "qkv_proj", "Wqkv") if name in linear]
        targets, missing = fused[:1], [] if fused else missing
    if missing:
        raise InputError(
            f"LoRA targets {', '.join(missing)}: not in {model.config.model_type}; "
            f"expected some of its layers, {', '.join(sorted(linear))}"
        )
    adapted: list[str] | None = targets
    if (lora.top_layers < 1 or lora.targets == ALL_LINEAR) and targets:  # BERT's "dense" is outside its layers too
        layers = model.config.get_text_config().num_hidden_layers
        lowest = layers - math.ceil(lora.top_layers * layers)
        adapted = [
            name
            for name, _ in model.named_modules()
            if name.rpartition(".")[2] in targets and _layer_number(name) >= lowest
        ]
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=adapted,
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )


def _linear_names(model: PreTrainedModel) -> tuple[str, ...]:
    """Names the linear layers in a model's numbered layers.

    Raises:
        InputError: There are none.
    """
    modules = model.named_modules()
    kinds = (nn.Linear, Conv1D)  # the latter in GPT-2
    names = [name for name, module in modules if isinstance(module, kinds) and _layer_number(name) >= 0]
    if not names:
        raise InputError(
            f"LoRA targets {ALL_LINEAR[0]}: {model.config.model_type} has no linear layers in numbered layers; "
            "expected some; name the modules to adapt (`lora.targets`)"
        )
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _layer_number(name: str) -> int:
    """Finds the number of the layer that a module is in, -1 for what is in none."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1)
