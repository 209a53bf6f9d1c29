"""The device that is asked for is there, or one line says which are."""

from __future__ import annotations

import pytest
import torch

from selfembed import InputError
from selfembed.model.device import choose_device, precise_dtype


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == "cpu"
    for device in ("cuda", "cuda:0", "gpu", "mps", ""):
        with pytest.raises(InputError, match=f"^device '{device}': expected cpu, which this machine"):
            choose_device(device)


def test_devices_that_are_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == "cuda" and choose_device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="expected cpu or cuda or cuda:0 or cuda:1"):
        choose_device("cuda:2")


def test_apples_gpus_have_no_float64():
    assert precise_dtype("mps") is torch.float32 and precise_dtype("cpu") is precise_dtype("cuda:0") is torch.float64
