"""UniPi: pictures that one network drew are what the next one sees; training shows it recorded ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from every_recipe import brief, close, fresh, hasty, policy_of, seeded
from nano_batch import nano_batch
from torch import Tensor

from crossroads.codecs.frame_latents import FrameLatentCodec, FrameLatents
from crossroads.codecs.spec import Latent
from crossroads.cost.flops import parameters
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.unipi import unipi
from crossroads.schedule import Leg
from crossroads.streams import Edge
from crossroads.types import Batch, Observation, ahead


def read(policy: StreamPolicy, batch: Batch) -> Tensor:
    """The actions that the inverse model reads from a batch's recorded frames, on the path of training."""
    policy.enter(policy.recipe.phase("inverse"))
    prepared = policy.prepare(batch, policy.groups(), seeded())
    with torch.no_grad():
        states = policy.net(policy.inputs(prepared, frozenset(prepared.latents), {}), {})
        return policy.net.codec("action").read(states["action"].hidden)


def shown(batch: Batch) -> Batch:
    """The same without the frames to come among what is observed."""
    images = {name: image for name, image in batch.obs.images.items() if "+" not in name}
    return replace(batch, obs=replace(batch.obs, images=images))


def test_what_acts_on_the_true_video_is_what_was_trained() -> None:
    policy = hasty("unipi")
    batch = shown(nano_batch(policy.recipe))
    known = {
        "video": policy.net.target(
            "video", replace(batch, obs=policy.net.recorded_for("video", batch, seeded()))
        ).values
    }
    settled = policy.settle(batch.obs, generator=seeded(), known=known)
    close(settled.streams["action"], read(policy, batch))


def test_acting_reads_what_was_imagined_not_what_an_observation_foresees() -> None:
    policy = hasty("unipi")
    batch = nano_batch(policy.recipe)
    assert ahead("front", 0.3) in batch.obs.images
    settled, blind = (policy.settle(b.obs, generator=seeded()) for b in (batch, shown(batch)))
    assert torch.equal(settled.streams["action"], blind.streams["action"])
    frames = policy.net.codec("video").decode(settled.streams["video"])  # pyright: ignore[reportAttributeAccessIssue]
    close(settled.streams["action"], read(policy, replace(batch, future=frames)))


def test_the_frames_beside_the_plan_are_the_draught_in_acting_and_recorded_in_training() -> None:
    policy = hasty("unipi")
    batch = shown(nano_batch(policy.recipe))
    run = Interpreter(policy.net, batch.obs, seeded())
    run.run(policy.recipe.stage.schedule)
    drawn = policy.net.codec("draught").decode(run.latents["draught"].values)["front"]  # pyright: ignore
    assert torch.equal(beside(run.latents["video"]), drawn[:, [0, 0, 1, 1]])
    policy.enter(policy.recipe.phase("planner"))
    prepared = policy.prepare(batch, policy.groups(), seeded())
    assert torch.equal(beside(prepared.latents["video"]), batch.future["front"][:, [1, 1, 3, 3]])
    now = batch.obs.images["front"][:, None].expand(-1, 4, -1, -1, -1)
    assert torch.equal(beside(prepared.latents["video"], first=0), now)


def beside(latent: Latent, first: int = 48) -> Tensor:
    """The frames beside a plan of four, unfolded."""
    assert latent.beside is not None
    spec = unipi().stage.stream("video").codec
    assert isinstance(spec, FrameLatents)
    alone = replace(spec, known_every=0, beside=False)
    return FrameLatentCodec(alone, 48).decode(latent.beside[..., first : first + 48])["front"]


def test_what_was_shown_is_outdated_when_its_source_moves_again() -> None:
    legs = brief("unipi").stage.schedule
    policy = policy_of("unipi")
    obs = nano_batch(policy.recipe).obs
    again = (*legs, legs[0], *legs[1:])
    once, cached = run(policy, obs, legs, caching=True), run(policy, obs, again, caching=True)
    full = run(policy, obs, again, caching=False)
    close(cached, full)
    assert not torch.allclose(once, cached)


def run(policy: StreamPolicy, obs: Observation, legs: tuple[Leg, ...], *, caching: bool) -> Tensor:
    with torch.no_grad():
        return Interpreter(policy.net, obs, seeded(), caching=caching).run(legs).streams["action"]


def test_an_action_takes_no_gradient_to_the_planner() -> None:
    policy = fresh(brief("unipi"))
    policy.enter(policy.recipe.phase("full"))
    policy.loss(nano_batch(policy.recipe), generator=seeded()).terms["action"].mean().backward()
    names = policy.net.weight_names(("text", "draught", "video")).values()
    weights = dict(policy.net.named_parameters())
    assert all(weights[name].grad is None for name in names if name in weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage.schedule": unipi().stage.schedule[1:]}, "a leg that settles draught before its pictures are shown"),
        ({"stage.schedule": unipi().stage.schedule[::2]}, "a leg that settles video before its pictures are shown"),
        ({"stage.edges.4": Edge(dst="pairs", src="text", via="value")}, "only between stages"),
        ({"stage.edges.4": Edge(dst="pairs", src="video", via="value", grad=False)}, "nothing more said of it"),
        ({"stage.edges.3": Edge(dst="draught", src="video", via="value")}, "frames with known ones beside them"),
    ],
)
def test_a_value_edge_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unipi().vary(changes)


def test_frames_that_do_not_divide_are_refused() -> None:
    spec = unipi().stage.stream("video").codec
    assert isinstance(spec, FrameLatents)
    with pytest.raises(InputError, match="divisors of how many frames there are, 4 and 4"):
        replace(spec, known_every=3)


def test_a_published_planner_weighs_what_the_paper_says() -> None:
    """1.7 B for each of the two (arXiv 2302.00111, appendix)."""
    parts = parameters(recipe("unipi", "published")).parts
    for tower in ("draught", "video"):
        assert parts[f"towers.{tower}"] == pytest.approx(1.7e9, rel=0.04)
