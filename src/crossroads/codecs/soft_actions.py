"""Actions and prompts as X-VLA's transformer takes them: what differs between robots lies at the ends.

X-VLA (Zheng et al. 2025, arXiv 2510.10274; LeRobot ``soft_transformer.py``, Apache-2.0): each noised action enters
beside the whole state and the waves of its level, through a map of its robot's own; learned tokens of its robot's own
("soft prompts") stand beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from crossroads.codecs.banks import BankedVectors, linear_of
from crossroads.codecs.chunk_token import ChunkCodec, ChunkToken
from crossroads.codecs.inputs import InputCodec
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.space import Normaliser
from crossroads.streams import ViewKind, linear_flops, linear_parameters
from crossroads.types import Batch, Observation


@dataclass(frozen=True, kw_only=True)
class SoftActions(ChunkToken):
    """One token per action, the state of now in each. ``waves``: numbers that tell the level; ``robots``: those with
    maps of their own. ``unseen``: columns, of actions and of states, that enter as zeros (grippers); ``scored``: those
    of actions that are answered as scores, of which the sigmoid is the action."""

    waves: int = 32
    robots: tuple[str, ...] = ()
    unseen: tuple[int, ...] = ()
    scored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.scored and self.normaliser != "none":
            raise InputError(
                where="SoftActions.scored",
                expected="actions in their own units (normaliser 'none'): scores become numbers from 0 to 1",
                got=repr(self.normaliser),
                do="Normalise nothing, or learn the columns as the others.",
            )

    @property
    def entering(self) -> int:
        """Numbers of a token before its map."""
        return self.action_size + self.num_state + self.waves

    def num_tokens(self, view: ViewKind) -> int:
        return self.num_actions

    def num_parameters(self, width: int) -> int:
        ends = linear_parameters(self.entering, width) + linear_parameters(width, self.action_size)
        return max(1, len(self.robots)) * ends

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_actions, self.entering, width)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return linear_flops(self.num_actions, width, self.action_size)


class SoftActionCodec(ChunkCodec):
    """The module of :class:`SoftActions`."""

    spec: SoftActions

    def __init__(self, spec: SoftActions, width: int) -> None:
        nn.Module.__init__(self)
        self.spec = spec
        self.normaliser, self.state_normaliser = Normaliser(spec.action_size), Normaliser(spec.num_state)
        self.enter = linear_of(spec.entering, width, spec.robots)  # pyright: ignore[reportAttributeAccessIssue]
        self.leave = linear_of(width, spec.action_size, spec.robots)  # pyright: ignore[reportAttributeAccessIssue]

    def target(self, batch: Batch) -> Latent:
        found = Latent(values=self.normaliser.normalise(batch.actions), valid=batch.actions_valid)
        return replace(found, beside=self.beside(batch.obs))

    def beside(self, obs: Observation) -> Float[Tensor, "b n s"] | None:
        """The state of now, at every action."""
        if not self.spec.num_state:
            return None
        return repeat(self.state_normaliser.normalise(obs.state), "b s -> b n s", n=self.spec.num_actions)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_actions, self.spec.action_size)

    def embed(self, latent: Float[Tensor, "b n c"], level: Tensor) -> Float[Tensor, "b n w"]:
        state = (self.spec.action_size + column for column in self.spec.unseen)
        hidden = [*self.spec.unseen, *(column for column in state if column < latent.shape[-1])]
        shown = torch.ones(latent.shape[-1], device=latent.device)
        shown[hidden] = 0.0
        told = slow_waves(level, self.spec.waves).to(latent.dtype).expand(-1, latent.shape[1], -1)
        return self.enter(torch.cat([latent * shown, told], dim=-1))

    def read(self, hidden: Float[Tensor, "b n w"]) -> Float[Tensor, "b n a"]:
        return self.leave(hidden)

    def decode(self, latent: Float[Tensor, "b n a"]) -> Float[Tensor, "b n a"]:
        if self.spec.scored:
            latent = latent.clone()
            latent[..., list(self.spec.scored)] = latent[..., list(self.spec.scored)].sigmoid()
        return self.normaliser.restore(latent)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        places = torch.full((num_tokens, 3), math.nan)
        places[:, 0] = torch.arange(num_tokens)
        return places


def slow_waves(level: Float[Tensor, "b n"], width: int) -> Float[Tensor, "b n w"]:
    """``[cos, sin](t 100^(-i / half))`` of the level itself (``timestep_embedding``, ``max_period`` 100)."""
    half = width // 2
    angle = level.unsqueeze(-1) * torch.exp(-math.log(100.0) * torch.arange(half, device=level.device) / half)
    found = torch.cat([angle.cos(), angle.sin()], dim=-1)
    return nn.functional.pad(found, (0, width - 2 * half))


@dataclass(frozen=True, kw_only=True)
class SoftPrompts(LearnedTokens):
    """Learned tokens that stand nowhere; ``robots``: those that have their own."""

    robots: tuple[str, ...] = ()

    def num_parameters(self, width: int) -> int:
        return max(1, len(self.robots)) * super().num_parameters(width)


class SoftPromptCodec(InputCodec):
    """The module of :class:`SoftPrompts`; its latent is empty."""

    def __init__(self, spec: SoftPrompts, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.bank = BankedVectors(spec.num * width, spec.robots or ("",), spec.std)

    def observe(self, obs: Observation) -> Latent:
        return all_valid(torch.zeros(obs.batch_size, self.spec.num, 0, device=obs.state.device))

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num, 0)

    def embed(self, latent: Float[Tensor, "b n 0"], level: Tensor) -> Float[Tensor, "b n w"]:
        return rearrange(self.bank.of(len(latent)), "b (n w) -> b n w", n=self.spec.num)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return torch.full((num_tokens, 3), math.nan)
