"""What every recipe with a release must pass: its layout goes in and comes out, its weights and work are counted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build_net
from crossroads.codecs.spec import all_valid
from crossroads.cost.flops import Work, parameters
from crossroads.parity.recorded import embedded
from crossroads.recipes.release import write_release
from crossroads.recipes.transfer import Official, export_release, import_release
from crossroads.towers.attend import Sdpa


def goes_in_and_comes_out(released: Official, folder: Path, beside: tuple[str, ...]) -> Mapping[str, Tensor]:
    """Random weights in the official layout, with tensors ``beside`` them that the recipe has no use for; returns those
    of the recipe under their official names."""
    torch.manual_seed(0)
    net = build_net(released.recipe.stage)
    (file,) = write_release(net, released.names, folder / "release")
    given = load_file(file)
    save_file({**given, **{name: torch.zeros(1) for name in beside}}, file)
    found = import_release(released, str(folder / "release"), folder / "ours", dtype=torch.float32)
    for (name, ours), (other, theirs) in zip(found.named_parameters(), net.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
    (back,) = export_release(released, folder / "ours", folder / "back")
    returned = load_file(back)
    assert returned.keys() == given.keys()
    assert all(torch.equal(returned[name], given[name]) for name in given)
    return given


def weighs_and_works_as_said(released: Official) -> None:
    """One pass of all groups; the frozen models are not run."""
    stage = released.recipe.stage
    net = build_net(stage)
    counted = {part: num for part, num in parameters(released.recipe).parts.items() if "autoencoders" not in part}
    assert sum(weight.numel() for weight in net.parameters()) == sum(counted.values())
    names = frozenset(net.layout.groups)
    shapes = {name: net.codec(name).latent_shape(net.group(name).view.kind) for name in names}
    latents = {name: all_valid(torch.randn(1, *shape)) for name, shape in shapes.items()}
    net.attend_by(Sdpa(max_waste=0.0))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(embedded(net, latents, {}, names), {})
    work = Work(stage=stage)
    assert work.run(names) + work.embed(names) == counter.get_total_flops()
