"""Dropout with a mask that a CPU draws quickly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16
_BITS_PER_DRAW = 4  # masks of 16 bits in a draw of 64


class Dropout(nn.Module):
    """Dropout as :class:`torch.nn.Dropout`, several times faster on a CPU.

    torch draws one 64-bit number for every entry there, on one thread; 16 bits each are enough to tell which entries
    are dropped. The probability is kept to 1 / 65536, and what is kept is scaled by the probability as it is.

    Args:
        p: probability that an entry is zeroed.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Some entries zeroed and the others scaled in training, the same tensor otherwise; any shape."""
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
