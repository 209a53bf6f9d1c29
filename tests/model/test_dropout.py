"""Dropout drawn in few random numbers: as many zeros as asked for, the mean kept, gradients where the values are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selfembed.model.dropout import Dropout, draw_dropout_quickly


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drops_the_share_asked_for_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(501, 801, dtype=dtype))
    assert dropped.dtype == dtype
    assert (dropped == 0).float().mean().item() == pytest.approx(p, abs=4e-3)

    assert dropped.float().mean().item() == pytest.approx(1, rel=0.02)


def test_entries_are_dropped_independently():
    torch.manual_seed(0)
    zeros = (Dropout(0.5)(torch.ones(400, 4_003)) == 0).float()  # rows do not begin where a draw begins
    for lag in range(1, 9):
        both = (zeros[:, lag:] * zeros[:, :-lag]).mean().item()
        assert both == pytest.approx(0.25, abs=2e-3), f"entries {lag} apart"
    assert (zeros[1:] * zeros[:-1]).mean().item() == pytest.approx(0.25, abs=2e-3)


def test_gradients_flow_through_what_is_kept_only():
    torch.manual_seed(0)
    values = torch.randn(64, 33, requires_grad=True)
    dropped = Dropout(0.25)(values)
    dropped.sum().backward()
    assert torch.equal(values.grad == 0, dropped == 0)
    assert torch.allclose(values.grad[dropped != 0], torch.tensor(4 / 3))
    assert torch.allclose(dropped[dropped != 0], values[dropped != 0] * 4 / 3)


def test_is_drawn_from_torchs_generator():
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(Dropout(0.5)(torch.ones(100)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("p", [0.0, 1e-6])
def test_changes_nothing_where_nothing_is_dropped(p):
    values = torch.randn(3, 5)
    assert Dropout(p)(values) is values
    assert Dropout(0.5).eval()(values) is values


def test_drops_everything_at_one():
    assert not Dropout(1.0)(torch.ones(7)).any()


def test_takes_the_place_of_torchs_dropout_and_of_nothing_else():
    model = nn.ModuleDict({
        "list": nn.ModuleList([nn.Dropout(0.1), nn.Linear(2, 2)]),
        "in place": nn.Dropout(0.2, inplace=True),
        "off": nn.Dropout(0.3).eval(),
        "alpha": nn.AlphaDropout(0.4),
    })  # fmt: skip
    draw_dropout_quickly(model)
    assert isinstance(model["list"][0], Dropout) and model["list"][0].p == 0.1 and model["list"][0].training
    assert isinstance(model["list"][1], nn.Linear)
    assert type(model["in place"]) is nn.Dropout and type(model["alpha"]) is nn.AlphaDropout
    assert isinstance(model["off"], Dropout) and not model["off"].training
