"""A picture painter steered by another picture: Stable Diffusion's UNet with a ControlNet, called as a whole.

Rombach et al. 2022, arXiv 2112.10752; Zhang et al. 2023, arXiv 2302.05543 (diffusers' ``UNet2DConditionModel`` and
``ControlNetModel``, which run here). GENIMA (Shridhar et al. 2024, arXiv 2407.07875) paints a robot's next joints into
its camera pictures with them. A token is one place of the latent, with the pixels of the steering picture at that place
folded behind it; what the network answers is what its process owes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.diffusion import step_at
from crossroads.errors import InputError
from crossroads.towers.forward import ForwardFrame, ForwardTower, Told
from crossroads.towers.released import read_network, take_over
from crossroads.towers.spec import context_of


@dataclass(frozen=True, kw_only=True)
class Painter(ForwardTower):
    """Sizes. ``attends``: which blocks on the way down hold transformers (on the way up the mirrored ones, if not told
    otherwise), of ``heads`` heads. ``steering``: channels of the small network over the steering picture, which halves
    it between each two. ``strength`` of the steering; ``num_steps``: of the discrete process whose step is told."""

    latent_hw: tuple[int, int]
    channels: int
    block_channels: tuple[int, ...]
    attends: tuple[bool, ...]
    heads: tuple[int, ...]
    context_width: int
    steering: tuple[int, ...] = (16, 32, 96, 256)
    attends_up: tuple[bool, ...] = ()
    layers: int = 2
    groups: int = 32
    strength: float = 1.0
    num_steps: int = 1000
    linear: bool = False
    """Whether transformers of the maps enter and leave by linear maps (Stable Diffusion 2) or by convolutions."""

    @property
    def fold(self) -> int:
        """Pixels of the steering picture per place of the latent and side."""
        return 2 ** (len(self.steering) - 1)

    @property
    def width(self) -> int:
        return self.channels + 3 * self.fold**2

    @property
    def num_taps(self) -> int:
        return 0

    def tap_width(self, tap: int) -> int:
        return self.width

    def tap_tokens(self, num_tokens: int, tap: int) -> int:
        return num_tokens

    def frame(self) -> PainterFrame:
        return PainterFrame(self)


class PainterFrame(ForwardFrame):
    """The two networks of :class:`Painter`."""

    def __init__(self, spec: Painter) -> None:
        super().__init__()
        self.spec = spec
        self.unet, self.controlnet = _networks(spec)

    def start_from(self, source: str, subfolder: str = "unet", *, controlnet: str | None = None) -> None:
        """Take over the UNet of a release (of Stable Diffusion, for instance) in diffusers' format, and a ControlNet of
        another; without one the steering network starts as a copy of the UNet that adds nothing yet, as GENIMA's did.

        Raises:
            InputError: there is none, or it has other sizes.
        """
        take_over(self.unet, read_network("UNet2DConditionModel", source, subfolder), f"UNet of {source}")
        made = type(self.controlnet)
        if controlnet is None:
            steering = made.from_unet(self.unet, conditioning_embedding_out_channels=self.spec.steering)
            take_over(self.controlnet, steering, f"steering network of {source}")
        else:
            take_over(self.controlnet, read_network(made.__name__, controlnet, ""), f"ControlNet of {controlnet}")

    def enter(self, x: Float[Tensor, "b n w"], condition: Told) -> Float[Tensor, "b n c"]:
        spec, (rows, columns) = self.spec, self.spec.latent_hw
        words = context_of(condition.contexts, spec.context_width)
        if words is None:
            raise InputError(
                where="Painter tower",
                expected=f"words {spec.context_width} wide that are read by a cross edge",
                got="none",
                do="Add a cross edge from the words.",
            )
        num = x.shape[1] // (rows * columns)
        maps = rearrange(x, "b (k h w) c -> (b k) c h w", k=num, h=rows, w=columns)
        latent, folded = maps.split([spec.channels, 3 * spec.fold**2], dim=1)
        picture = rearrange(folded, "b (p q c) h w -> b c (h p) (w q)", p=spec.fold, q=spec.fold)
        level = condition.level.repeat_interleave(num // condition.level.shape[1], dim=1).flatten()
        hidden = words.hidden.repeat_interleave(num, dim=0)
        residuals = self.steered(latent, step_at(level, spec.num_steps), hidden, (picture + 1) / 2)
        answer = self.painted(latent, step_at(level, spec.num_steps), hidden, residuals)
        return rearrange(answer, "(b k) c h w -> b (k h w) c", k=num)

    def steered(
        self,
        latent: Float[Tensor, "b c h w"],
        step: Tensor,
        words: Float[Tensor, "b m d"],
        picture: Float[Tensor, "b 3 rows columns"],
    ) -> tuple[list[Tensor], Tensor]:
        """What the steering network adds to the UNet's skip connections and to its middle; ``picture`` in 0..1."""
        return self.controlnet(
            latent,
            step,
            encoder_hidden_states=words,
            controlnet_cond=picture,
            conditioning_scale=self.spec.strength,
            return_dict=False,
        )

    def painted(
        self,
        latent: Float[Tensor, "b c h w"],
        step: Tensor,
        words: Float[Tensor, "b m d"],
        residuals: tuple[list[Tensor], Tensor] | None,
    ) -> Float[Tensor, "b c h w"]:
        """The UNet's answer, steered or not."""
        down, middle = residuals or (None, None)
        return self.unet(
            latent,
            step,
            encoder_hidden_states=words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            return_dict=False,
        )[0]


def _networks(spec: Painter) -> tuple[Any, Any]:
    try:
        from diffusers.models.controlnets.controlnet import ControlNetModel  # pyright: ignore[reportMissingImports]
        from diffusers.models.unets.unet_2d_condition import (  # pyright: ignore[reportMissingImports]
            UNet2DConditionModel,
        )
    except ImportError as error:
        raise InputError(
            where="Painter tower",
            expected="the package diffusers",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    down = ("DownBlock2D", "CrossAttnDownBlock2D")
    up = ("UpBlock2D", "CrossAttnUpBlock2D")
    sizes: dict[str, Any] = {
        "in_channels": spec.channels,
        "down_block_types": tuple(down[attends] for attends in spec.attends),
        "block_out_channels": spec.block_channels,
        "layers_per_block": spec.layers,
        "cross_attention_dim": spec.context_width,
        "attention_head_dim": spec.heads,  # diffusers' name for how many there are
        "norm_num_groups": spec.groups,
        "use_linear_projection": spec.linear,
    }
    unet = UNet2DConditionModel(
        **sizes,
        out_channels=spec.channels,
        up_block_types=tuple(up[attends] for attends in spec.attends_up or spec.attends[::-1]),
    )
    return unet, ControlNetModel(**sizes, conditioning_embedding_out_channels=spec.steering)
