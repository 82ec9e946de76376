"""DreamZero: as its server reads, by reused velocities, and for few steps."""

from __future__ import annotations

from dataclasses import replace

import torch
from every_recipe import close, moments, seeded
from nano_batch import ROBOT, nano_batch

from crossroads.build import build
from crossroads.cost.passes import legs_of
from crossroads.objectives import Flow
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.dreamzero import as_served, dreamzero, dreamzero_flash
from crossroads.recipes.dreamzero_sizes import NANO, SKIPPING
from crossroads.solvers import Skipping


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
    recipe = dreamzero_flash()
    assert [recipe.stage.leader(name).name for name in ("video", "action")] == ["video", "action"]
    assert [dreamzero().stage.leader(name).name for name in ("video", "action")] == ["video", "video"]
    assert recipe.stage.stream("action") == dreamzero().stage.stream("action")
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


def test_published_dreamzero_runs_its_network_at_8_of_16_steps_and_flash_at_1() -> None:
    """NUM_DIT_STEPS is 8 where nothing is set; the paper's Flash takes one step."""
    steps = [legs_of(recipe(name, "published").stage)[-1].steps for name in ("dreamzero", "dreamzero_flash")]
    assert steps == [8, 1]
    for num, skipping in SKIPPING.items():
        assert len(skipping.evaluated) == num
        recipe("dreamzero", "published").vary({"stage.schedule.1.skipping": skipping})


def test_cached_equals_full_where_velocities_are_reused() -> None:
    """On the second block of a run."""
    policy = build(dreamzero(replace(NANO, skipping=Skipping(evaluated=(0, 2)))), ROBOT, seed=1)
    first, second, *_ = moments(policy, nano_batch(policy.recipe))
    memory = policy.act(first, policy.start(2), generator=seeded())[1]
    cached, full = (policy.settle_on(second, memory, generator=seeded(), caching=one)[0] for one in (True, False))
    for stream in ("video", "action"):
        close(cached.streams[stream], full.streams[stream])
