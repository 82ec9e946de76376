"""Latent plans: what may still differ once the present is known, as numbers drawn from a distribution.

In training a plan is drawn from what its ``posterior`` reads of the whole window, when acting from what its ``prior``
expects of the present; a divergence keeps the two alike (Kingma and Welling 2014, arXiv 1312.6114; Play-LMP, arXiv
1903.01973; ACT, arXiv 2304.13705). A distribution is told by the numbers that a group answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.streams import Corrupted


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Independent normal numbers; told are their means, then the logarithms of their variances.

    ``floor``: behind the means stand numbers whose softplus, and this above it, is the deviation (MCIL and HULC, arXiv
    2005.07648 and 2204.06252, 1e-4).
    """

    size: int
    floor: float | None = None

    @property
    def num_told(self) -> int:
        return 2 * self.size

    def likeliest(self, told: Float[Tensor, "b t"]) -> Float[Tensor, "b z"]:
        return told[:, : self.size]

    def drawn(self, told: Float[Tensor, "b t"], noise: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
        """``mean + exp(log variance / 2) noise``; ``noise`` is standard normal."""
        mean, log_variance = self.mean_and_log_variance(told)
        return mean + (log_variance / 2).exp() * noise

    def mean_and_log_variance(self, told: Float[Tensor, "b t"]) -> tuple[Tensor, Tensor]:
        mean, spread = told.chunk(2, dim=1)
        return mean, spread if self.floor is None else 2 * (functional.softplus(spread) + self.floor).log()

    def divergence(self, told: Float[Tensor, "b t"], other: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """``KL(told || other)``, summed over the numbers, in float32."""
        (mean, log), (other_mean, other_log) = map(self.mean_and_log_variance, (told.float(), other.float()))
        apart = (mean - other_mean) ** 2 * (-other_log).exp()
        return ((log - other_log).exp() + apart - 1 - (log - other_log)).sum(dim=1) / 2


@dataclass(frozen=True, kw_only=True)
class Categories:
    """``num`` independent choices among ``classes``, each one-hot, with the gradient of its probabilities (HULC, arXiv
    2204.06252, after Hafner et al. 2021, arXiv 2010.02193); told are the scores of all classes."""

    num: int
    classes: int

    @property
    def size(self) -> int:
        return self.num * self.classes

    @property
    def num_told(self) -> int:
        return self.size

    def _scores(self, told: Tensor) -> Float[Tensor, "b num classes"]:
        return rearrange(told, "b (num classes) -> b num classes", num=self.num)

    def _chosen(self, scores: Tensor, told: Tensor) -> Tensor:
        """One-hot, and going backward as if it were the probabilities."""
        share = self._scores(told).softmax(dim=-1)
        chosen = torch.zeros_like(share).scatter(-1, scores.argmax(dim=-1, keepdim=True), 1.0)
        return rearrange(chosen + share - share.detach(), "b num classes -> b (num classes)")

    def likeliest(self, told: Float[Tensor, "b t"]) -> Float[Tensor, "b z"]:
        return self._chosen(self._scores(told), told)

    def drawn(self, told: Float[Tensor, "b t"], noise: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
        """The class of the largest score plus Gumbel noise, made of standard normal ``noise``."""
        even = (torch.erf(noise.double() / math.sqrt(2)) / 2 + 0.5).clamp(1e-12, 1 - 1e-12)
        gumbel = -(-even.log()).log()
        return self._chosen(self._scores(told + gumbel.to(told.dtype)), told)

    def divergence(self, told: Float[Tensor, "b t"], other: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
        """``KL(told || other)``, summed over the choices, in float32."""
        log, other_log = (self._scores(part.float()).log_softmax(dim=-1) for part in (told, other))
        return (log.exp() * (log - other_log)).sum(dim=(1, 2))


Distribution = Gaussian | Categories


@dataclass(frozen=True, kw_only=True)
class KL:
    """A plan of ``family``: ``KL(posterior || prior)``, names of groups that tell a distribution; ``prior`` None: all
    told numbers are 0, a standard normal (ACT).

    ``balance``: the share of the divergence that moves the prior towards the posterior; the rest moves the posterior
    (HULC, arXiv 2204.06252, 0.8). None: one term moves both. The value is the same.
    """

    family: Distribution
    posterior: str
    prior: str | None = None
    weight: float = 1.0
    balance: float | None = None

    @property
    def readers(self) -> tuple[str, ...]:
        """The groups that tell a distribution."""
        return (self.posterior,) if self.prior is None else (self.posterior, self.prior)

    def draw(self, batch: int, num: int, generator: torch.Generator) -> Float[Tensor, "b l"]:
        return torch.zeros(batch, 1, device=generator.device)

    def corrupt(self, latent: Tensor, level: Float[Tensor, "b l"], generator: torch.Generator) -> Corrupted:
        """The noise from which the plan is drawn once its posterior is known."""
        noise = torch.randn(latent.shape, generator=generator, device=latent.device, dtype=latent.dtype)
        return Corrupted(latent=noise, level=level, target=torch.zeros_like(latent))

    def loss(self, output: Float[Tensor, "b 1 t"], corrupted: Corrupted, valid: Bool[Tensor, "b n"]) -> Tensor:
        """``output``: what the prior told; the target: what the posterior told. Per sample."""
        prior, posterior = output[:, 0], corrupted.target[:, 0]
        if self.balance is None:
            return self.family.divergence(posterior, prior)
        towards = self.family.divergence(posterior.detach(), prior)
        back = self.family.divergence(posterior, prior.detach())
        return self.balance * towards + (1 - self.balance) * back
