"""GENIMA: what is drawn is where the robot shall be, and the controller sees nothing else of the camera pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import close, hasty, policy_of, seeded
from nano_batch import nano_batch
from torch import Tensor

from crossroads.codecs.frame_latents import Folded
from crossroads.codecs.target_pictures import CLOSED, COLOURS, OPEN, TargetPictureCodec, TargetPictures
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import recipe
from crossroads.types import Batch

SPEC = TargetPictures(
    cameras=("a", "b"),
    image_hw=(16, 24),
    columns=1,
    after_s=1.0,
    autoencoder=Folded(fold=4),
    radii_m=(0.1, 0.2),
)
CODEC = TargetPictureCodec(SPEC, SPEC.num_channels)


def marks(*places: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """Four marks, those that are not said behind the camera, the same in both."""
    behind = [(0.5, 0.5, 0.0, 0.0)] * 4
    told = torch.tensor([[*behind[len(places) :], *places]])
    return {"a": told, "b": told}


def grey(num: int = 1) -> dict[str, Tensor]:
    return {camera: torch.full((num, 16, 24, 3), 7, dtype=torch.uint8) for camera in SPEC.cameras}


def test_a_disc_is_round_in_its_place_and_nothing_else_is_changed() -> None:
    """The centre at row 4, column 6; radii of 1.6 and 3.2 pixels."""
    drawn = CODEC.drawn(grey(), marks((0.25, 0.25, 1.0, 1.0)))
    rows, columns = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    for camera, radius in (("a", 1.6), ("b", 3.2)):
        inside = (rows - 4) ** 2 + (columns - 6) ** 2 <= radius**2
        assert inside.any()
        assert torch.equal((drawn[camera][0] != 7).any(dim=-1), inside)
        assert drawn[camera][0][inside].unique(dim=0).tolist() == [list(OPEN)]


def test_each_joint_has_its_colour_and_the_gripper_lies_on_top_in_that_of_its_state() -> None:
    apart = [(0.125 + 0.25 * index, 0.5, 1.0, 0.0) for index in range(4)]
    picture = CODEC.drawn(grey(), marks(*apart))["a"][0, 8]
    assert [picture[3 + 6 * index].tolist() for index in range(4)] == [*map(list, COLOURS), list(CLOSED)]
    same = CODEC.drawn(grey(), marks(*[(0.5, 0.5, 1.0, 0.0)] * 4))["a"][0]
    assert same[8, 12].tolist() == list(CLOSED)


def test_tiles_are_taken_apart_as_they_were_put_together() -> None:
    batch = tiny()
    found = CODEC.pictures(CODEC.target(batch).values)
    for camera, picture in CODEC.drawn(batch.obs.images, batch.marks).items():
        assert torch.equal(found[camera], picture)


def tiny() -> Batch:
    """A batch of the specification above."""
    batch = nano_batch(recipe("genima"))
    generator = torch.Generator().manual_seed(1)
    images = {
        camera: torch.randint(0, 256, (2, 16, 24, 3), generator=generator, dtype=torch.uint8) for camera in SPEC.cameras
    }
    told = torch.rand(2, 4, 4, generator=generator)
    return replace(batch, obs=replace(batch.obs, images=images), marks={"a": told, "b": told})


def test_a_sample_without_actions_owes_no_drawing() -> None:
    batch = tiny()
    there = batch.actions_valid.clone()
    there[1] = False
    assert CODEC.target(replace(batch, actions_valid=there)).valid.any(dim=1).tolist() == [True, False]


def test_the_controller_learns_from_marks_over_textures_that_are_drawn_anew() -> None:
    policy = policy_of("genima")
    policy.enter(policy.recipe.phase("controller"))
    batch = nano_batch(policy.recipe)
    one, other = (policy.prepare(batch, policy.groups(), seeded(seed)).latents["image"].values for seed in (3, 4))
    codec = policy.net.codec("target")
    assert isinstance(codec, TargetPictureCodec)
    black = {camera: torch.zeros_like(image) for camera, image in batch.obs.images.items()}
    marked = torch.stack(list(codec.drawn(black, batch.marks).values()), dim=1) != 0
    marked = marked.any(dim=-1)
    assert marked.any()
    assert torch.equal(one[marked], other[marked])
    assert (one[~marked] != other[~marked]).float().mean() > 0.9
    unseen = replace(batch, obs=replace(batch.obs, images=black))
    assert torch.equal(policy.prepare(unseen, policy.groups(), seeded(3)).latents["image"].values, one)


def test_acting_on_the_true_drawing_is_the_controller_on_that_picture() -> None:
    policy = hasty("genima")
    batch = nano_batch(policy.recipe)
    codec = policy.net.codec("target")
    assert isinstance(codec, TargetPictureCodec)
    known = {"target": codec.target(batch).values}
    acted = policy.settle(batch.obs, generator=seeded(), known=known).streams["action"]
    shown = codec.drawn(batch.obs.images, batch.marks)
    close(acted, controlled(policy, replace(batch, obs=batch.obs.showing(shown))))
    assert not torch.allclose(acted, controlled(policy, batch))


def controlled(policy: StreamPolicy, batch: Batch) -> Tensor:
    """What the controller does with the pictures of an observation as they are, in the style of acting."""
    codec = policy.net.codec("target")
    assert isinstance(codec, TargetPictureCodec)
    policy.enter(policy.recipe.phase("controller"))
    layout = policy.net.layout
    with torch.no_grad():
        prepared = policy.prepare(batch, frozenset({"action", "plan", "state", "image"}), seeded())
        latents = dict(prepared.latents)
        latents["plan"] = replace(latents["plan"], values=torch.zeros_like(latents["plan"].values))
        latents["image"] = policy.net.observe("image", batch.obs)
        latents["action"] = replace(latents["action"], valid=torch.ones_like(latents["action"].valid))
        prepared = replace(prepared, latents=latents)
        states = policy.net(policy.inputs(prepared, layout.needed(["action"]), {}), {})
        return policy.net.codec("action").read(states["action"].hidden)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="whole rows of 3 pictures"):
        replace(SPEC, columns=3)
    with pytest.raises(InputError, match="one for each of 2 cameras"):
        replace(SPEC, radii_m=(0.1, 0.1, 0.1))
    with pytest.raises(InputError, match="takes 96 channels"):
        TargetPictureCodec(SPEC, 48)


def test_the_published_painter_weighs_what_its_release_does() -> None:
    """The UNet of Stable Diffusion 2.1 has 866 M weights; GENIMA's ControlNet is a copy of its way down."""
    painter = recipe("genima", "published").stage.towers[1].spec
    assert painter.num_parameters() == pytest.approx(866e6 + 364e6, rel=0.01)
