"""Our loops are torch's recurrent networks, and a step reads none after it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from crossroads.towers.recurrent import GATES, Cell, Recurrence

TWINS: dict[Cell, type[nn.RNNBase]] = {"relu": nn.RNN, "tanh": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
every_cell = pytest.mark.parametrize("cell", sorted(GATES))


@every_cell
@pytest.mark.parametrize("both", [False, True])
@torch.no_grad()
def test_a_recurrence_is_its_twin_in_torch(cell: Cell, both: bool) -> None:
    torch.manual_seed(0)
    ours = Recurrence(5, 4, 2, cell, both=both)
    given = {"batch_first": True, "bidirectional": both}
    given |= {"nonlinearity": cell} if TWINS[cell] is nn.RNN else {}
    twin = TWINS[cell](5, 4, 2, **given)  # pyright: ignore[reportArgumentType]
    for layer, directions in enumerate(ours.layers):
        for way, direction in enumerate(directions):  # pyright: ignore[reportArgumentType]
            suffix = f"l{layer}{'_reverse' if way else ''}"
            for part, short in (("enter", "ih"), ("again", "hh")):
                for kind in ("weight", "bias"):
                    getattr(twin, f"{kind}_{short}_{suffix}").copy_(getattr(getattr(direction, part), kind))
    x = torch.randn(3, 6, 5)
    went, (outputs, last) = ours(x), twin(x)
    last = last[0] if isinstance(last, tuple) else last
    torch.testing.assert_close(went.outputs, outputs, rtol=0, atol=1e-6)
    if not both:
        torch.testing.assert_close(went.after(-1), last, rtol=0, atol=1e-6)


@every_cell
def test_no_step_reads_one_after_it(cell: Cell) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 5, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(Recurrence(3, 16, 2, cell)(x).outputs[:, 2].sum(), x)
    assert torch.equal(slope[:, 3:], torch.zeros_like(slope[:, 3:]))
    assert bool((slope[:, :3] != 0).any(dim=2).all())
