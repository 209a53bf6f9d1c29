"""The dropout of a model: sets that of its attention, and puts in a kind whose mask a CPU draws quickly.

Both change a model of another library in place, where it has no option for it once it is loaded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfembed.errors import InputError
from selfembed.model.modes import decoder_of

_LEVELS = 1 << 16
_BITS_PER_DRAW = 4  # masks of 16 bits in a draw of 64


class Dropout(nn.Module):
    """Dropout as :class:`torch.nn.Dropout`, several times faster on a CPU.

    There torch draws one 64-bit number for every entry, on one thread; 16 bits are enough to decide which entries are
    dropped. The probability is rounded to 1 / 65536, and what is kept is scaled by the rounded one.

    Args:
        p: Probability that an entry is zeroed.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Zeroes some entries and scales the others in training; gives the same tensor otherwise. Takes any shape."""
        dropped_levels = round(self.p * _LEVELS)
        if not self.training or dropped_levels == 0:
            return values
        if dropped_levels == _LEVELS:
            return values * 0
        draws = torch.empty(-(-values.numel() // _BITS_PER_DRAW), dtype=torch.int64, device=values.device)
        bits = draws.random_(torch.iinfo(torch.int64).min, None).view(torch.int16)[: values.numel()]
        kept = bits.view(values.shape) >= dropped_levels + torch.iinfo(torch.int16).min
        return torch.where(kept, values, 0.0).mul_(_LEVELS / (_LEVELS - dropped_levels))

    def extra_repr(self) -> str:
        return f"p={self.p}"


def draw_dropout_quickly(model: nn.Module) -> None:
    """Puts :class:`Dropout` in the place of every :class:`torch.nn.Dropout` that is not in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout and not child.inplace:
                setattr(parent, name, Dropout(child.p).train(child.training))


def set_attention_dropout(model: nn.Module, probability: float) -> None:
    """Sets the dropout of attention probabilities, which acts in training mode only.

    Raises:
        InputError: A probability above 0 is asked for and the family has no such dropout that we know of.
    """
    decoder = decoder_of(model)
    found = 0
    for module in decoder.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):  # most families hand it to the kernel
            module.attention_dropout = probability
            found += 1
        elif hasattr(getattr(module, "attn_dropout", None), "p"):  # GPT-2
            module.attn_dropout.p = probability
            found += 1
    if probability and not found:
        raise InputError(
            f"attention_dropout {probability}: {decoder.config.model_type} has no such dropout that we know of; "
            "expected 0; set it, as the adapter's dropout still makes two views"
        )
