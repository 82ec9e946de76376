"""Activation memory from specs: against the tensors that autograd really saves, on every recipe and phase."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from every_recipe import policy_of, seeded
from nano_batch import ROBOT, TEXTS, nano_batch
from tiny_stage import tiny_recipe
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from crossroads.build import build
from crossroads.codecs.subtask import SubtaskCodec
from crossroads.codecs.text import TextCodec
from crossroads.cost.activations import saved_by_training
from crossroads.cost.flops import Work
from crossroads.cost.kept import Kept
from crossroads.cost.memory import product_weights
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.recipes.dit4dit import dit4dit
from crossroads.recipes.dit4dit_sizes import NANO
from crossroads.stage import Stage, Tower
from crossroads.towers.attend import Sdpa
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.spec import Heads
from crossroads.types import Batch

IN_COSMOS = replace(
    NANO,
    video=replace(NANO.video, marked=True),
    video_tower=Cosmos(
        width=192, mlp=768, depth=6, heads=4, head_dim=48, rotary=(16, 16, 16), modulation_width=32, context_width=128
    ),
    sees_ahead=True,
)
"""DiT4DiT's published kind of video model at nano size."""

UNEVEN = {
    ("vlm2vla", "full"): "actions are written out, and the longest text of a batch decides for all its samples",
    ("lapa", "quantiser"): "what is kept of four samples and of eight is not in proportion",
}
"""Where autograd does not keep as much of each further sample; there the estimate is held to a factor of two."""
CASES = [(name, phase.name) for name, make in RECIPES.items() for phase in make().phases]
every_phase = pytest.mark.parametrize(("name", "phase"), CASES)


@contextmanager
def each_group_alone(policy: StreamPolicy) -> Iterator[None]:
    """On a CPU groups share attention calls, which makes autograd keep more; a GPU keeps what is counted here."""
    policy.net.attend_by(Sdpa(max_waste=-1.0))  # not even groups that read the same share a call
    try:
        yield
    finally:
        policy.net.attend_by(Sdpa())


def saved_bytes(policy: StreamPolicy, batch: Batch, *, mixed: bool) -> int:
    """Bytes of every distinct storage that autograd keeps, the weights themselves left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(saved: Tensor) -> Tensor:
        """Detached: a graph that keeps its own outputs is never freed."""
        saved = saved.detach()
        if saved.untyped_storage().data_ptr() not in weights:
            kept[saved.untyped_storage().data_ptr()] = saved
        return saved

    with (
        each_group_alone(policy),
        saved_tensors_hooks(keep, lambda saved: saved),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")  # RMSNorm under autocast
        total = policy.loss(batch, generator=seeded()).total.mean()
    found = sum(saved.untyped_storage().nbytes() for saved in kept.values())
    del total
    return found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What autograd keeps of each further sample, and what it keeps once for all of them."""

    sample: float
    once: float


def still_batch(policy: StreamPolicy, size: int) -> Batch:
    """One state for all samples, which may be written into the prompt, and the same texts: as long in any batch."""
    batch = nano_batch(policy.recipe, size=size)
    obs = replace(batch.obs, state=torch.zeros_like(batch.obs.state), text=(TEXTS[0], TEXTS[-1]) * (size // 2))
    return replace(batch, obs=obs)


def measured(policy: StreamPolicy, *, mixed: bool) -> Measured:
    two, four = (saved_bytes(policy, still_batch(policy, size), mixed=mixed) for size in (2, 4))
    return Measured(sample=(four - two) / 2, once=2 * two - four)


def told(policy: StreamPolicy) -> Work:
    """The work of the recipe with texts as long as the batch's."""
    batch, lengths = still_batch(policy, 4), {}
    for stream in policy.recipe.stage.streams:
        codec = policy.net.own_codec(stream.name)
        if isinstance(codec, TextCodec | SubtaskCodec):
            latent = codec.observe(batch.obs) if stream.objective is None else codec.target(batch)
            lengths[stream.name] = latent.valid.shape[1]
    return Work(stage=policy.recipe.stage, tokens=lengths)


@every_phase
def test_activations_and_copies_of_weights_are_what_autograd_saves_within_a_tenth(name: str, phase: str) -> None:
    """Of each further sample, in float32 and under autocast; and what mixed precision keeps whatever the batch.

    Not counted: masks of attention, and under autocast inputs that are cast anew for each product.
    """
    policy = policy_of(name)
    policy.enter(policy.recipe.phase(phase))
    work = told(policy)
    estimate = saved_by_training(policy.phase, work)
    if (name, phase) in UNEVEN:
        for narrow in (4, 2):
            saved = saved_bytes(policy, still_batch(policy, 8), mixed=narrow == 2)
            assert 0.5 < estimate.bytes(narrow) / (saved / 8) < 2
        return
    single, mixed = measured(policy, mixed=False), measured(policy, mixed=True)
    assert estimate.bytes(4) == pytest.approx(single.sample, rel=0.06)
    assert estimate.bytes(2) == pytest.approx(mixed.sample, rel=0.10)
    assert 2 * product_weights(policy.phase, work) == pytest.approx(mixed.once - single.once, rel=0.15)


def test_activations_of_a_cosmos_tower_are_what_autograd_saves_within_a_tenth() -> None:
    """No nano recipe has one."""
    policy = build(dit4dit(IN_COSMOS), ROBOT, seed=1)
    policy.enter(policy.recipe.phases[0])
    for narrow, within in ((4, 0.06), (2, 0.10)):
        estimate = saved_by_training(policy.phase, told(policy)).bytes(narrow)
        assert estimate == pytest.approx(measured(policy, mixed=narrow == 2).sample, rel=within)


def test_what_a_phase_never_changes_keeps_nothing() -> None:
    recipe = policy_of("pi0").recipe
    work = Work(stage=recipe.stage)
    full, head = (saved_by_training(recipe.phase(name), work).bytes(4) for name in ("full", "head"))
    assert head < full / 3


def test_kept_numbers_add_up_in_their_own_precisions() -> None:
    assert (Kept(narrow=3, wide=1) + Kept(narrow=1)).times(2) == Kept(narrow=8, wide=2)
    assert Kept(narrow=8, wide=2).bytes(2) == 24


@dataclass(frozen=True, kw_only=True)
class Unheard:
    """A tower of a kind nobody has described."""

    geometry: Heads
    width: int = 12


def test_a_tower_that_nobody_described_is_refused_and_not_guessed() -> None:
    recipe = tiny_recipe()
    words = recipe.stage.towers[0]
    unheard = Unheard(geometry=recipe.stage.towers[1].spec.geometry)
    towers = (words, Tower(name="expert", spec=unheard))  # pyright: ignore[reportArgumentType]
    stage: Stage = replace(recipe.stage, towers=towers)
    with pytest.raises(InputError, match=r"tower 'expert'.*Wan.*got Unheard"):
        saved_by_training(recipe.phase("full"), Work(stage=stage))
