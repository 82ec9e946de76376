"""Inverse models at work: trained on few labels, they label action-free video and read imagined clips.

Two kinds, both without any path from the words. ``scene`` sees whole pictures. ``motion`` sees only where the hand is
in each frame: a small reader, trained on the same labels, turns a frame into the robot's own state first (evidence
page, section 5.1: the local one needs fewer labels). Action-free episodes have no state; the reader supplies it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from crossroads.backbones.load import load_backbones
from crossroads.build import build, fit_normalisers
from crossroads.codecs.pixels import Patches
from crossroads.cores import training_device
from crossroads.pilot.plan import fingerprint, fit
from crossroads.policy import Memory, StreamPolicy
from crossroads.recipe import Recipe
from crossroads.recipes import nano
from crossroads.recipes.inverse import NUM_MOMENTS, inverse_motion, inverse_scene
from crossroads.space import ActionSpace, Statistics
from crossroads.streams import linear_parameters
from crossroads.towers.group import GroupState
from crossroads.train.features import FeatureBatch, FeatureSource, FeatureStore
from crossroads.train.loop import train
from crossroads.train.optim import TrainConfig
from crossroads.types import Actions, Batch, Losses, Observation

Sees = Literal["motion", "scene"]
READER_HEADS, READER_WIDTH = 8, 128
TOKEN_NOISE = 0.1
"""Standard deviation of noise on the reader's tokens while it learns: labels are few."""


class StateReader(nn.Module):
    """A frame's frozen tokens to the robot's state: a few learned gazes say where and what, a small network says where
    the hand is. Standardised on both ends; about 0.2 M weights."""

    def __init__(self, eyes: Recipe, state: Statistics) -> None:
        super().__init__()
        codec, width = eyes.stage.stream("image").codec, eyes.stage.towers[0].spec.width
        assert isinstance(codec, Patches)
        rows, columns = (torch.linspace(-1, 1, side) for side in codec.patches_hw)
        self.grid: Tensor
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("grid", torch.cartesian_prod(rows, columns))
        self.register_buffer("centre", torch.tensor(state.mean))
        self.register_buffer("spread", torch.tensor(state.std).clamp(min=1e-6))
        self.norm = nn.LayerNorm(width)
        self.gaze = nn.Linear(width, READER_HEADS)
        self.up = nn.Linear(READER_HEADS * (2 + width), READER_WIDTH)
        self.down = nn.Linear(READER_WIDTH, len(state.mean))

    def forward(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b s"]:
        """State in physical units."""
        return self.unit(tokens) * self.spread + self.centre

    def standard(self, state: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
        """A state in standard deviations of the labelled frames."""
        return (state - self.centre) / self.spread

    def unit(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b s"]:
        """State in standard deviations of the labelled frames."""
        x = self.norm(tokens)
        gaze = self.gaze(x).softmax(dim=1)
        where = torch.einsum("bnk,nc->bkc", gaze, self.grid)
        what = torch.einsum("bnk,bnw->bkw", gaze, x)
        return self.down(nn.functional.gelu(self.up(torch.cat([where.flatten(1), what.flatten(1)], dim=1))))


def first_frame(state: GroupState) -> Float[Tensor, "b n w"]:
    """The tokens of the frame of now among those of all moments."""
    return rearrange(state.hidden, "b (m n) w -> b m n w", m=NUM_MOMENTS)[:, 0]


def scene_recipe(space: ActionSpace, cameras: tuple[str, ...]) -> Recipe:
    """``inverse_scene`` sized for a robot."""
    return fit(inverse_scene(), space, cameras)


def motion_recipe(space: ActionSpace, cameras: tuple[str, ...]) -> Recipe:
    """``inverse_motion`` sized for a robot: its state at every moment, one after the other."""
    sized = fit(inverse_motion(), space, cameras)
    return sized.vary({"stage.streams.state.codec.num_state": NUM_MOMENTS * space.num_state})


def reader_parameters(space: ActionSpace) -> int:
    """Trained weights of the state reader that comes with every inverse model."""
    width, num_state = nano.LANGUAGE_TOWER.width, space.num_state
    seen = READER_HEADS * (2 + width)
    return (
        2 * width
        + linear_parameters(width, READER_HEADS)
        + linear_parameters(seen, READER_WIDTH)
        + linear_parameters(READER_WIDTH, num_state)
    )


def vision(space: ActionSpace, cameras: tuple[str, ...]) -> StreamPolicy:
    """The frozen eyes of both kinds, ready to compute features."""
    policy = build(scene_recipe(space, cameras), space, seed=0)
    load_backbones(policy)
    policy.enter(policy.recipe.phase("head"))
    return policy


class InverseModel:
    """A trained inverse model. ``read`` answers for frames; ``answers`` for windows whose features are cached."""

    def __init__(self, sees: Sees, eyes: StreamPolicy, reader: StateReader, policy: StreamPolicy) -> None:
        self.sees, self.eyes, self.reader, self.policy = sees, eyes, reader, policy
        self.camera = eyes.recipe.window.cameras[0]
        self.times_s = eyes.recipe.window.future_s

    @torch.no_grad()
    def answers(self, batch: FeatureBatch) -> Float[np.ndarray, "b n a"]:
        """Actions of cached windows, in physical units within the robot's limits."""
        batch = self.seen(batch)
        prepared = self.policy.prepare(batch.batch, frozenset({"action"}), torch.Generator().manual_seed(0))
        names, valid = frozenset(prepared.latents), {name: state.valid for name, state in batch.states.items()}
        if self.sees == "motion":
            prepared = self.policy.prepare(batch.batch, self.policy.groups(), torch.Generator().manual_seed(0))
            names, valid = frozenset(prepared.latents), {}
        states = self.policy.net(self.policy.inputs(prepared, names, valid), dict(batch.states))
        codec = self.policy.net.own_codec("action")
        values = codec.decode(codec.read(states["action"].hidden))  # pyright: ignore[reportAttributeAccessIssue]
        return self.policy.space.clamp(values).numpy()

    def seen(self, batch: FeatureBatch) -> FeatureBatch:
        """What this kind may look at: the scene's tokens, or the states that the reader finds in them."""
        if self.sees == "scene":
            return batch
        obs = replace(batch.batch.obs, state=self.motion(batch.states["image"]))
        return FeatureBatch(batch=replace(batch.batch, obs=obs), states={})

    @torch.no_grad()
    def motion(self, state: GroupState) -> Float[Tensor, "b m_s"]:
        """The robot's state at every moment, one after the other."""
        frames = rearrange(state.hidden, "b (m n) w -> (b m) n w", m=NUM_MOMENTS)
        return rearrange(self.reader(frames), "(b m) s -> b (m s)", m=NUM_MOMENTS)

    @torch.no_grad()
    def states(self, batch: FeatureBatch) -> Float[Tensor, "b s"]:
        """The robot's state now, as read from the pictures."""
        return self.reader(first_frame(batch.states["image"]))

    @torch.no_grad()
    def read(
        self, now: UInt8[Tensor, "b h w 3"], future: UInt8[Tensor, "b f h w 3"]
    ) -> tuple[Float[np.ndarray, "b n a"], Float[np.ndarray, "b m s"]]:
        """Actions that lead from a frame to the next ones, and the robot's state in each of them."""
        batch = _watched(self.camera, now, future, self.policy)
        states = self.eyes.features(batch, generator=torch.Generator().manual_seed(0))
        found = FeatureBatch(batch=batch, states={"image": states["image"]})
        places = rearrange(self.motion(states["image"]), "b (m s) -> b m s", m=NUM_MOMENTS)
        return self.answers(found), places.numpy()


def _watched(camera: str, now: Tensor, future: Tensor, policy: StreamPolicy) -> Batch:
    """Frames alone as a batch: no words, no state, no actions."""
    num, window = len(now), policy.recipe.window
    obs = Observation(
        images={camera: now},
        state=torch.zeros(num, policy.space.num_state),
        text=("",) * num,
        robot=(policy.space.robot,) * num,
        time_s=torch.zeros(num),
    )
    return Batch(
        obs=obs,
        actions=torch.zeros(num, window.num_actions, window.action_size),
        actions_valid=torch.ones(num, window.num_actions, dtype=torch.bool),
        future={camera: future},
        future_valid=torch.ones(num, future.shape[1], dtype=torch.bool),
        answer=("",) * num,
        weight=torch.ones(num),
        **Batch.unforeseen(num),
    )


class _Training(nn.Module):
    """Reader and model as the training loop sees them: both learn from every batch, and no gradient runs between."""

    def __init__(self, model: InverseModel) -> None:
        super().__init__()
        self.reader, self.policy, self._model = model.reader, model.policy, [model]

    def loss(self, batch: FeatureBatch, *, generator: torch.Generator) -> Losses:
        tokens = first_frame(batch.states["image"])
        noise = TOKEN_NOISE * torch.randn(tokens.shape, generator=generator)
        read = (self.reader.unit(tokens + noise) - self.reader.standard(batch.batch.obs.state)).abs().mean(dim=1)
        seen = self._model[0].seen(batch)
        acted = self.policy.loss(seen.batch, generator=generator, cached=seen.states)
        return Losses(terms={"state": read, **acted.terms})


def train_inverse(
    sees: Sees,
    eyes: StreamPolicy,
    store: FeatureStore,
    rows: np.ndarray,
    *,
    state: Statistics,
    actions: Statistics,
    recipe: Recipe,
    folder: Path,
    config: TrainConfig,
) -> InverseModel:
    """Train reader and model on the labelled ``rows`` of cached windows; the same call continues what was stopped.

    ``state`` and ``actions`` are statistics of the labelled frames that it may see; ``recipe`` is ``scene_recipe`` or
    ``motion_recipe``, with its expert as wide as wanted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        reader = StateReader(eyes.recipe, state)
    policy = build(recipe, eyes.space, seed=config.seed)
    load_backbones(policy)
    policy.enter(recipe.phase("head"))
    fit_normalisers(policy, state=_every_moment(state) if sees == "motion" else None, actions=actions)
    model = InverseModel(sees, eyes, reader, policy)
    source = FeatureSource(store=store, rows=rows, batch_size=config.batch_size, seed=config.seed)
    training = _Training(model)
    train(
        training,
        source,
        config,
        folder,
        device=training_device(),
        progress=False,
        recipe_name=recipe.name,
        fingerprint=fingerprint(recipe, rows.tolist()),
    )
    training.to("cpu")
    return model


def _every_moment(state: Statistics) -> Statistics:
    """The same statistics for every moment's state."""
    repeated = {name: getattr(state, name) * NUM_MOMENTS for name in ("mean", "std", "min", "max", "q01", "q99")}
    return replace(state, **repeated)


def label(model: InverseModel, store: FeatureStore, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Pseudo-actions (m n a) and states as read (m s) of cached windows, in the order of ``rows``."""
    actions, states = [], []
    for part in np.array_split(rows, max(1, len(rows) // 64)):
        batch = store.batch(part, np.zeros_like(part))
        actions.append(torch.from_numpy(model.answers(batch)))
        states.append(model.states(batch))
    return torch.cat(actions), torch.cat(states)


class Imagined(nn.Module):
    """A policy in two stages: a video model imagines what comes, an inverse model says how to get there (UniPi)."""

    passed_s: tuple[float, ...] = ()
    before_s: tuple[float, ...] = ()

    def __init__(self, planner: StreamPolicy, inverse: InverseModel) -> None:
        super().__init__()
        self.planner, self.inverse = planner, inverse

    def start(self, batch_size: int) -> Memory:
        return Memory()

    def act(
        self, obs: Observation, memory: Memory, *, generator: torch.Generator, show: bool = False
    ) -> tuple[Actions, Memory]:
        """The chunk that the inverse model reads from the imagined clip."""
        frames: Mapping[str, Tensor] = self.planner.imagine(obs, generator=generator)
        camera = self.inverse.camera
        values, _ = self.inverse.read(obs.images[camera], frames[camera])
        chunk = Actions(
            values=torch.from_numpy(values),
            control_hz=self.inverse.policy.space.control_hz,
            imagined=frames if show else {},
        )
        return chunk, Memory(num_chunks=memory.num_chunks + 1)
