"""DreamZero's two variants: as its server reads, and for few steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from crossroads.objectives import Flow
from crossroads.recipes.dreamzero import as_served, dreamzero, flash
from crossroads.recipes.dreamzero_sizes import NANO
from crossroads.schedule import Denoise


def test_the_server_forgets_the_frame_of_now_and_its_state_reads_everything() -> None:
    """Three blocks of one frame and a window of two: the second block reads the first's frame and its own."""
    recipe = dreamzero(replace(NANO, local_frames=2))
    seen = {}
    for made in (recipe, as_served(recipe)):
        made.validate()
        layout = made.stage.layout
        per_frame = layout.groups["video.now"].stream.codec.num_tokens("now")
        edges = {edge.src: edge for edge in layout.sources("video.clean")}
        num = {"video.now": 1, "video.clean": 3}
        now, clean = (layout.mask(edges[src], 3 * per_frame, num[src] * per_frame) for src in num)
        first = [True] * 3 if now is None else now[::per_frame, 0].tolist()
        assert clean is not None
        assert clean[-1, ::per_frame].tolist() == [False, True, True]
        seen[made.name] = (first, {edge.src for edge in layout.sources("state")})
    assert seen["dreamzero"] == ([True, True, True], {"state"})
    everything = {"video.now", "video.clean", "video", "action", "state"}
    assert seen["dreamzero_as_served"] == ([True, False, False], everything)


def test_flash_draws_noisier_videos_and_actions_of_their_own_levels() -> None:
    recipe = flash(dreamzero(), steps=2)
    assert [recipe.stage.leader(name).name for name in ("video", "action")] == ["video", "action"]
    means = {}
    for made in (dreamzero(), recipe):
        objective = made.stage.stream("video").objective
        assert isinstance(objective, Flow)
        means[made.name] = objective.draw(4000, 1, torch.Generator().manual_seed(0)).mean().item()
    # The mean of shift(u^(1/7)), shift 5, by numerical integration.
    u = (torch.arange(100_000) + 0.5) / 100_000
    x = u ** (1 / 7)
    assert abs(means["dreamzero_flash"] - (5 * x / (1 + 4 * x)).mean().item()) < 0.005
    assert means["dreamzero"] < 0.8
    denoise = recipe.stage.schedule[-1]
    assert isinstance(denoise, Denoise)
    assert denoise.solver.steps == 2
