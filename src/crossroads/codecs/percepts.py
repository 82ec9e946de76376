"""What is perceived at each step as one vector: what networks make of the pictures, and the joints as they are.

Play-LMP (arXiv 1903.01973), MCIL (arXiv 2005.07648) and HULC (arXiv 2204.06252): the same vector stands for a moment,
for a goal that is a picture, and step by step for the window that a plan is read from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from crossroads.codecs.inputs import InputCodec, InputTokens
from crossroads.codecs.keypoints import PictureFeatures, PictureNetwork
from crossroads.codecs.spec import HiddenInTraining, Latent, all_valid
from crossroads.codecs.steps import Steps
from crossroads.errors import InputError
from crossroads.space import Normaliser, NormaliserKind
from crossroads.streams import ViewKind
from crossroads.types import NOTHING, Batch, Observation, Window, ahead


@dataclass(frozen=True, kw_only=True)
class Percepts(InputTokens):
    """One vector at each of ``steps``: of each camera what its network says, then the joints, normalised.

    A picture is resized to what its network takes. ``felt``: which numbers of the state, of ``num_state``; empty: all.
    Behind the end of an episode its last moment is repeated, and counts.
    """

    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    networks: tuple[PictureNetwork, ...]
    num_state: int
    steps: Steps
    felt: tuple[int, ...] = ()
    normaliser: NormaliserKind = "mean_std"

    def __post_init__(self) -> None:
        if len(self.cameras) != len(self.networks) or max(self.felt, default=-1) >= self.num_state:
            raise InputError(
                where="Percepts",
                expected="a network for each camera, and numbers of the state that are there",
                got=f"{len(self.networks)} networks for {len(self.cameras)} cameras, felt {self.felt}",
                do="Correct them.",
            )

    @property
    def num_felt(self) -> int:
        return len(self.felt) or self.num_state

    @property
    def width(self) -> int:
        """Numbers of one vector."""
        return sum(network.features for network in self.networks) + self.num_felt

    @property
    def size(self) -> int:
        """Numbers of the raw moment."""
        return len(self.cameras) * self.image_hw[0] * self.image_hw[1] * 3 + self.num_felt

    def num_tokens(self, view: ViewKind) -> int:
        return self.steps.num

    def window(self) -> Window:
        asked = {"cameras": self.cameras, "image_hw": self.image_hw if self.cameras else (0, 0)}
        asked |= {"num_state": self.num_state, "later_state_s": self.steps.later_s}
        return Window(**{**vars(NOTHING), **asked, "future_s": self.steps.frames_s if self.cameras else ()})

    def num_parameters(self, width: int) -> int:
        return sum(network.num_parameters() for network in self.networks)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return self.num_tokens(view) * sum(network.flops() for network in self.networks)


class PerceptCodec(InputCodec):
    """The module of :class:`Percepts`; its latent holds the pixels, from -1 to 1, and the joints of each moment."""

    def __init__(self, spec: Percepts, width: int) -> None:
        super().__init__()
        self.spec = spec
        if spec.width != width:
            raise InputError(
                where="Percepts",
                expected=f"a tower as wide as what is perceived ({spec.width})",
                got=str(width),
                do="Give the tower that width.",
            )
        self.normaliser = Normaliser(spec.num_state)
        self.networks = nn.ModuleList(PictureFeatures(network) for network in spec.networks)

    def observe(self, obs: Observation) -> Latent:
        """The moments so far; those that have not come are not there."""
        seen = (*obs.before, obs)
        pictures = [torch.stack([one.images[c] for one in seen], dim=1) for c in self.spec.cameras]
        values = self.moments(pictures, torch.stack([one.state for one in seen], dim=1))
        return self.spec.steps.filled(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device), 1)

    def target(self, batch: Batch) -> Latent:
        """All moments of the window."""
        obs, steps = batch.obs, self.spec.steps.num
        pictures = [
            torch.cat([obs.images[c][:, None], batch.future[c][:, : steps - 1]], dim=1) for c in self.spec.cameras
        ]
        states = torch.cat([obs.state[:, None], batch.later_state], dim=1)
        return all_valid(self.moments(pictures, states))

    def moments(self, pictures: list[UInt8[Tensor, "b t h w 3"]], states: Float[Tensor, "b t s"]) -> Tensor:
        """Raw moments, ``b t c``."""
        felt = self.normaliser.normalise(states)
        felt = felt[..., list(self.spec.felt)] if self.spec.felt else felt
        flat = [rearrange(part, "b t h w c -> b t (h w c)").float() / 127.5 - 1 for part in pictures]
        return torch.cat([*flat, felt], dim=-1)

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (self.spec.num_tokens(view), self.spec.size)

    def embed(self, latent: Float[Tensor, "b t c"], level: Tensor) -> Float[Tensor, "b t w"]:
        rows, columns = self.spec.image_hw
        pixels, felt = latent.split([self.spec.size - self.spec.num_felt, self.spec.num_felt], dim=-1)
        parts = []
        if len(self.networks):
            shape = {"v": len(self.networks), "h": rows, "w": columns, "c": 3}
            for network, view in zip(
                self.networks, rearrange(pixels, "b t (v h w c) -> v (b t) c h w", **shape), strict=True
            ):
                assert isinstance(network, PictureFeatures)
                wanted = network.spec.image_hw
                if wanted != (rows, columns):
                    view = functional.interpolate(view, size=wanted, mode="bilinear", align_corners=False)
                parts.append(rearrange(network(view), "(b t) f -> b t f", b=len(latent)))
        return torch.cat([*parts, felt], dim=-1)

    def grid(self, view: ViewKind, num_tokens: int) -> Float[Tensor, "n 3"]:
        return self.spec.steps.grid(num_tokens)


@dataclass(frozen=True, kw_only=True)
class GoalPercept(InputTokens):
    """What would be perceived at a goal that is a picture, through the networks of the stream it ``shares``; that the
    picture is not there means that the words are the goal.

    In training it is the last moment of the window, in ``share`` of the samples. When acting it is a picture given
    under the name that this moment has (``types.ahead``). The joints are those of now.
    """

    percepts: Percepts
    share: float = 0.5

    def num_tokens(self, view: ViewKind) -> int:
        return 1

    def window(self) -> Window:
        return self.percepts.window()

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return sum(network.flops() for network in self.percepts.networks)


class GoalPerceptCodec(InputCodec, HiddenInTraining):
    """The module of :class:`GoalPercept`; it has no weights of its own."""

    def __init__(self, spec: GoalPercept, width: int) -> None:
        super().__init__()
        self.spec, self.width = spec, width
        self._percepts: list[PerceptCodec] = []

    def through(self, codec: nn.Module) -> None:
        """Use the networks and the units of a stream of percepts."""
        assert isinstance(codec, PerceptCodec)
        self._percepts[:] = [codec]

    def observe(self, obs: Observation) -> Latent:
        spec, codec = self.spec.percepts, self._percepts[0]
        last = spec.steps.later_s[-1]
        names = [ahead(camera, last) for camera in spec.cameras]
        given = bool(names) and all(name in obs.images for name in names)
        pictures = [obs.images[name if given else c][:, None] for c, name in zip(spec.cameras, names, strict=True)]
        values = codec.moments(pictures, obs.state[:, None])
        return Latent(values=values, valid=self._there(values, given))

    def _there(self, values: Tensor, given: bool) -> Bool[Tensor, "b 1"]:
        return torch.full(values.shape[:2], given, dtype=torch.bool, device=values.device)

    def masked(self, latent: Latent, generator: torch.Generator) -> Latent:
        """There in a share of the samples alone, as training wants it, in every batch as nearly that as can be."""
        num, device = len(latent.values), latent.values.device
        rank = torch.rand(num, generator=generator, device=device).argsort()
        chosen = (rank + torch.rand(1, generator=generator, device=device)) / num < self.spec.share
        return replace(latent, valid=latent.valid & chosen[:, None])

    def latent_shape(self, view: ViewKind) -> tuple[int, ...]:
        return (1, self.spec.percepts.size)

    def embed(self, latent: Float[Tensor, "b 1 c"], level: Tensor) -> Float[Tensor, "b 1 w"]:
        return self._percepts[0].embed(latent, level)
