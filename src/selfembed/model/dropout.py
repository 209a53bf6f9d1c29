"""The dropout of a model: that of its attention, set anew, and a kind whose mask a CPU draws quickly.

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


def set_attention_dropout(model: nn.Module, probability: float) -> None:
    """Sets the dropout of attention probabilities, which acts in training mode only.

    Raises:
        InputError: the family has none that we know of, and some is asked for.
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
            "set it to 0, the adapter's dropout still makes two views"
        )
