"""Modes of one copy of the weights: the encoder that is trained, and the raw causal decoder that teaches it.

Within a training step the same modules run in either mode. Gradient checkpointing runs them once more in the backward
pass, when the mode may be another; :func:`checkpointing_kwargs` restores that of the forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from selfembed.model.attention import set_attention


class Mode:
    """What a forward pass depends on besides weights and inputs: adapters, causal flags, training flags.

    Args:
        root: The module whose mode is recorded, with all modules in it.
    """

    def __init__(self, root: nn.Module) -> None:
        modules = list(root.modules())
        self.training = [(module, module.training) for module in modules]
        flags = [(module, getattr(module, "is_causal", None)) for module in modules]
        self.is_causal: list[tuple[Any, bool]] = [(module, flag) for module, flag in flags if isinstance(flag, bool)]
        layers = [module for module in modules if isinstance(module, BaseTunerLayer)]
        self.disabled = [(layer, layer.disable_adapters) for layer in layers]
        # peft freezes the weights of an adapter it disables, and thaws all it enables
        self.requires_grad = [(weight, weight.requires_grad) for layer in layers for weight in layer.parameters()]

    def enter(self) -> None:
        """Sets the module to this mode."""
        for layer, disabled in self.disabled:
            if layer.disable_adapters != disabled:
                layer.enable_adapters(not disabled)
        for weight, requires_grad in self.requires_grad:
            weight.requires_grad = requires_grad
        for module, is_causal in self.is_causal:
            module.is_causal = is_causal
        for module, training in self.training:
            module.training = training


@contextmanager
def mode_kept(root: nn.Module) -> Iterator[None]:
    """Restores a module's mode at the end, whatever happens to it inside."""
    before = Mode(root)
    try:
        yield
    finally:
        before.enter()


def turn_adapters_off(root: nn.Module) -> None:
    """Disables all adapters in a module."""
    for module in root.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(False)


def decoder_of(model: nn.Module) -> PreTrainedModel:
    """Finds the transformers model in an embedder, wrapped or not."""
    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


@contextmanager
def decoder_mode(model: nn.Module) -> Iterator[None]:
    """Makes an embedder the raw decoder while inside: adapters off, causal attention, evaluation mode, no second copy.

    Gradients flow, to `inputs_embeds` for instance; wrap a teacher in `torch.no_grad()`. Blocks that checkpoint their
    activations stay in training mode themselves, unlike what is in them, since transformers checkpoints only in that
    mode. Blocks with a dropout of their own (OPT, where it is not 0) go to evaluation mode all the same.

    The backward pass may come after leaving. With gradient checkpointing it needs :func:`checkpointing_kwargs`.

    Args:
        model: An embedder, or any module with one transformers decoder in it.
    """
    decoder = decoder_of(model)
    configs = [(config, vars(config).get("is_causal")) for config in {id(c): c for c in _configs(decoder)}.values()]
    with mode_kept(model):
        checkpointing = [module for module in model.modules() if module.training and _checkpoints(module)]
        try:
            turn_adapters_off(model)
            set_attention(decoder, "causal")
            model.eval()
            for block in checkpointing:
                block.training = True
            yield
        finally:
            for config, is_causal in configs:
                if is_causal is None:
                    del config.is_causal
                else:
                    config.is_causal = is_causal


def _configs(decoder: PreTrainedModel) -> tuple[Any, Any]:
    return decoder.config, decoder.config.get_text_config()


def _checkpoints(module: nn.Module) -> bool:
    own_dropout = any("dropout" in name and isinstance(p, float) and p > 0 for name, p in vars(module).items())
    return isinstance(module, GradientCheckpointingLayer) and module.gradient_checkpointing and not own_dropout


def decoder_states(model: nn.Module, **inputs: Tensor) -> Tensor:
    """Computes the raw decoder's final hidden states, [B, T, D]; the frozen decoder layer makes logits of them.

    Args:
        model: An embedder.
        **inputs: The tensors `input_ids` [B, T] or `inputs_embeds` [B, T, D], and `attention_mask` [B, T]. Pad on the
            right: some families count positions from the first column.
    """
    with decoder_mode(model):
        states_BTD: Tensor = decoder_of(model)(**inputs, use_cache=False).last_hidden_state
        return states_BTD


def checkpointing_kwargs(model: nn.Module) -> dict[str, Any]:
    """Gives arguments for gradient checkpointing that recomputes every block in the mode it ran in.

    Call `embedder.gradient_checkpointing_enable(checkpointing_kwargs(embedder))` once, before training. The trainer's
    arguments are no way to hand them over: they are written to disk.

    Args:
        model: An embedder, which gets a forward pre-hook on every block.

    Returns:
        Arguments of `torch.utils.checkpoint.checkpoint`.
    """
    return {"use_reentrant": False, "context_fn": _ModeOfForward(model)}


class _ModeOfForward:
    """Records the mode of the block that is about to run, and of no other: recording all would cost too much."""

    def __init__(self, model: nn.Module) -> None:
        self.block: nn.Module | None = None
        for module in model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.register_forward_pre_hook(self.note)

    def note(self, block: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.block = block

    def __call__(self) -> tuple[nullcontext[None], nullcontext[None] | _Entered]:
        recomputed = torch.is_grad_enabled()  # a teacher's blocks are not
        if self.block is None or not recomputed:
            return nullcontext(), nullcontext()
        return nullcontext(), _Entered(self.block)


class _Entered:
    """Sets a block, while inside, to the mode it was in when this was made.

    Entered anew for every backward pass through a graph that is kept.
    """

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.mode = Mode(block)

    def __enter__(self) -> None:
        self.before = Mode(self.block)
        self.mode.enter()

    def __exit__(self, *error: object) -> None:
        self.before.enter()
