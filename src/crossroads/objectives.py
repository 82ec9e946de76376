"""How a stream is learned: what is done to its latent before the network sees it, and what the output owes.

An objective is a frozen value; ``draw`` chooses levels, ``corrupt`` prepares the network's input at them, ``loss`` is
per sample. Losses are computed in float32 and masked means: a sample without a valid token gives exactly zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.diffusion import COSINE, Process, Straight
from crossroads.edm import Edm
from crossroads.errors import InputError
from crossroads.mixtures import Logistics
from crossroads.noise import EVEN, PI_LEVELS, LevelSampler, LevelWeight, corrupt, per_token, velocity
from crossroads.streams import Corrupted


def masked_mean(error: Float[Tensor, "b n"], valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
    """Mean over valid tokens; zero, with zero gradient, where a sample has none."""
    return (error * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def _per_token(error: Tensor, num: int) -> Float[Tensor, "b n"]:
    """Mean over everything but batch and tokens; latents are ``b n ...`` with n dividing the flattened places."""
    return reduce(rearrange(error.float(), "b n ... -> b n (...)"), "b (n m) c -> b n", "mean", n=num)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Rectified flow: predict ``v = e - x_0`` at drawn levels.

    ``delays``: how often, in proportion, the first 0, 1, 2 ... tokens are given clean and owe nothing, as what is still
    being executed while a chunk is computed (training-time real-time chunking, arXiv 2512.05964); empty for never.
    ``clip``: what the network is shown is cut to these bounds (VLA Foundry, arXiv 2604.19728).
    """

    levels: LevelSampler = PI_LEVELS
    level_weight: LevelWeight = EVEN
    weight: float = 1.0
    delays: tuple[float, ...] = ()
    clip: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.delays and (min(self.delays) < 0 or max(self.delays) <= 0):
            raise InputError(
                where="Flow.delays",
                expected="shares of 0, 1, 2 ... steps of delay, at least one above zero",
                got=str(self.delays),
                do="Give (1.0, 1.0) for 0 or 1 step, alike often.",
            )

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return rearrange(self.levels.draw(batch * num, generator), "(b l) -> b l", l=num)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        if self.delays:
            level = self._begun(per_token(level, latent.shape[1]), latent.shape[1], generator)
        spread = per_token(level, latent.shape[1]).reshape(len(level), -1, *[1] * (latent.ndim - 2))
        shown = corrupt(latent, noise, spread)
        shown = shown if self.clip is None else shown.clamp(*self.clip)
        return Corrupted(latent=shown, level=level, target=velocity(latent, noise))

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
        error = _per_token((output.float() - corrupted.target.float()) ** 2, valid.shape[1])
        if self.delays:
            valid = valid & (corrupted.level > 0)
        return masked_mean(error * per_token(self.level_weight.at(corrupted.level), valid.shape[1]), valid)

    def towards(self, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The answer that leads straight from a state to ``clean``."""
        return (x - clean) / level

    def _begun(self, level: Float[Tensor, "b l"], num: int, generator: torch.Generator) -> Float[Tensor, "b n"]:
        """A level for each token, 0 for those of a drawn delay."""
        shares = torch.tensor(self.delays, device=level.device)
        delay = torch.multinomial(shares, len(level), replacement=True, generator=generator)
        return level.expand(-1, num).masked_fill(torch.arange(num, device=level.device) < delay[:, None], 0.0)


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """Noised by a process at a level that it draws; the squared error of what the process owes, and where it has a
    spread the variational bound beside it.

    Source: Ho et al. 2020, arXiv 2006.11239, eq. 14, with the other answers of ``Process``; Nichol and Dhariwal 2021,
    arXiv 2102.09672, section 3.1.
    """

    process: Process | Edm | Straight = COSINE
    weight: float = 1.0

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return self.process.draw(batch, num, generator)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        spread = per_token(level, latent.shape[1]).reshape(len(level), -1, *[1] * (latent.ndim - 2))
        owed = self.process.owed(latent, noise, spread)
        return Corrupted(latent=self.process.noised(latent, noise, spread), level=level, target=owed)

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
        if isinstance(self.process, Straight):
            return masked_mean(self.process.error(output, corrupted.target), valid)
        if not (isinstance(self.process, Process) and self.process.spread):
            return masked_mean(_per_token((output.float() - corrupted.target.float()) ** 2, valid.shape[1]), valid)
        answer, spread = output.float().chunk(2, dim=-1)
        shown, owed = corrupted.latent.float(), corrupted.target.float()
        level = per_token(corrupted.level, shown.shape[1]).reshape(len(shown), -1, *[1] * (shown.ndim - 2))
        bound = self.process.bound(shown, owed, answer, spread, level)
        return masked_mean(_per_token((answer - owed) ** 2 + bound, valid.shape[1]), valid)

    def towards(self, x: Tensor, clean: Tensor, level: Tensor) -> Tensor:
        """The answer that leads a deterministic solver from a state to ``clean``."""
        return self.process.towards(x, clean, level)


@dataclass(frozen=True, kw_only=True)
class Regress:
    """Predict the latent itself from learned queries. ``smooth``: squared below 1 and absolute above it, by halves
    (Huber's). Of each row the last ``binary`` numbers are scores for "above zero", learned by cross-entropy, which
    counts ``binary_weight`` times (the gripper of GR-1, arXiv 2312.13139, and of Seer, arXiv 2412.15109).

    A row that several tokens answer together (a picture) counts if all of them do.

    ``drawn``: standard normals are shown instead of zeros, for a network that makes its draws of them (the bottleneck
    of a model of motion: LAPA's, arXiv 2410.11758, and DreamDojo's, arXiv 2602.06949).
    """

    error: Literal["absolute", "squared", "smooth"] = "absolute"
    weight: float = 1.0
    binary: int = 0
    binary_weight: float = 1.0
    drawn: bool = False

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return torch.zeros(batch, 1, device=generator.device)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        shown = torch.zeros_like(latent)
        if self.drawn:
            shown = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        return Corrupted(latent=shown, level=level, target=latent)

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
        output, target = output.float(), corrupted.target.float()
        if valid.shape[1] > output.shape[1]:
            valid = reduce(valid.float(), "b (n m) -> b n", "min", n=output.shape[1]) > 0
        num = output.shape[-1] - self.binary
        error = _per_token(self._error(output[..., :num], target[..., :num]), valid.shape[1])
        if self.binary:
            above = (target[..., num:] > 0).float()
            told = functional.binary_cross_entropy_with_logits(output[..., num:], above, reduction="none")
            error = error + self.binary_weight * _per_token(told, valid.shape[1])
        return masked_mean(error, valid)

    def _error(self, output: Tensor, target: Tensor) -> Tensor:
        if self.error == "smooth":
            return functional.smooth_l1_loss(output, target, reduction="none")
        return (output - target).abs() if self.error == "absolute" else (output - target) ** 2


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Numbers are told as a mixture, and cost ``-log p`` in nats: a row's numbers summed, rows averaged (Play-LMP,
    arXiv 1903.01973, and HULC, arXiv 2204.06252). When acting they are drawn."""

    law: Logistics
    weight: float = 1.0

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return torch.zeros(batch, 1, device=generator.device)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        return Corrupted(latent=torch.zeros_like(latent), level=level, target=latent)

    def loss(self, output: Float[Tensor, "b n t"], corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Tensor:
        return masked_mean(self.law.loss(output, corrupted.target), valid)


@dataclass(frozen=True, kw_only=True)
class Align:
    """The prior and the posterior view of a stream come to one: the mean squared distance of their hidden states after
    each of some ``layers``, and the gradient goes into both (Being-H0.7, arXiv 2605.00078)."""

    layers: tuple[int, ...]
    weight: float = 1.0

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return torch.zeros(batch, 1, device=generator.device)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        raise AssertionError("neither view of an aligned stream is noised: validate() refuses one that is")

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
        """``output``: the prior's states, ``b n l w``; the target: the posterior's."""
        error = (output.float() - corrupted.target.float()) ** 2
        return masked_mean(_per_token(error, valid.shape[1]), valid)


@dataclass(frozen=True, kw_only=True)
class TokenCE:
    """Next-token cross-entropy: the network reads the tokens shifted right by one behind ``start_token``."""

    start_token: int
    end_token: int
    weight: float = 1.0

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return torch.zeros(batch, 1, device=generator.device)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        start = torch.full_like(latent[:, :1], self.start_token)
        return Corrupted(latent=torch.cat([start, latent[:, :-1]], dim=1), level=level, target=latent)

    def loss(self, output: Tensor, corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Float[Tensor, " b"]:
        error = functional.cross_entropy(
            rearrange(output.float(), "b n v -> b v n"), corrupted.target, reduction="none"
        )
        return masked_mean(error, valid)
