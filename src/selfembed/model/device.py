"""Where a model computes."""

from __future__ import annotations

import torch

from selfembed.errors import InputError


def choose_device(device: str | None = None) -> str:
    """Checks the device that is asked for, or takes a GPU where there is one.

    Args:
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"` and the like; None takes `"cuda"` or else `"cpu"`.

    Raises:
        InputError: There is no such device, or torch cannot use it here.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.cuda.is_available():
        there.insert(1, "cuda")
    if torch.backends.mps.is_available():
        there.append("mps")
    if device not in there:
        raise InputError(f"device {device!r}: expected {' or '.join(there)}, which this machine and this torch have")
    return device


def precise_dtype(device: torch.device | str) -> torch.dtype:
    """Gives the finest float that a device computes with: float64, on Apple's GPUs float32."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64
