"""GENIMA's painter as recorded from diffusers' classes (Apache-2.0): ControlNet, UNet, the plain denoising loss.

GENIMA trains those classes (Shridhar et al. 2024, arXiv 2407.07875); autoencoder and words are recorded tensors.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from crossroads.diffusion import Process, SquaredBetas
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing
from crossroads.parity.vpp import ATTENDING, stated
from crossroads.towers.painter import Painter

PROCESS = Process(betas=SquaredBetas(), num_steps=1000)
"""Stable Diffusion's."""
OTHER = "v_prediction"
"""How a recording says that its network answers a velocity instead of the noise."""


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """The steering residuals, the picture with and without them, and the loss."""
    frame = painter_of(case).frame().eval()
    frame.load_state_dict(dict(case.weights))
    given = case.inputs
    step, words, picture = given["timestep"], given["encoder_hidden_states"], given["controlnet_cond"]
    with hearing(frame.get_submodule("controlnet.controlnet_cond_embedding")) as embedded:
        residuals = frame.steered(given["latents"], step, words, picture)
    process = replace(PROCESS, answers="v") if OTHER in case.meta["noise_convention"] else PROCESS
    level = process.level(step)[:, None, None, None]
    noisy = process.noised(given["clean_latents"], given["noise"], level)
    target = process.owed(given["clean_latents"], given["noise"], level)
    learned = frame.painted(noisy, step, words, frame.steered(noisy, step, words, picture))
    down: dict[str, Tensor] = {f"down_residual_{index}": part for index, part in enumerate(residuals[0])}
    return Produced(
        outputs={
            **down,
            "tap_cond_embedding": embedded[0],
            "mid_residual": residuals[1],
            "unet_with_control": frame.painted(given["latents"], step, words, residuals),
            "unet_without_control": frame.painted(given["latents"], step, words, None),
            "noisy_latents": noisy,
            "training_target": target,
            "training_loss": ((learned - target) ** 2).mean(),
        }
    )


def painter_of(case: GoldenCase) -> Painter:
    """The specification of a recorded painter."""
    arguments = case.meta["constructor_arguments"]
    made = arguments["UNet2DConditionModel"]
    num, heads = len(made["block_out_channels"]), stated(made, "attention_head_dim", 8)
    return Painter(
        latent_hw=tuple(case.inputs["latents"].shape[-2:]),  # pyright: ignore[reportArgumentType]
        channels=made["in_channels"],
        block_channels=tuple(made["block_out_channels"]),
        attends=tuple(ATTENDING in kind for kind in made["down_block_types"]),
        attends_up=tuple(ATTENDING in kind for kind in made["up_block_types"]),
        heads=(heads,) * num if isinstance(heads, int) else tuple(heads),
        context_width=made["cross_attention_dim"],
        steering=tuple(arguments["conditioning_embedding_out_channels"]),
        layers=stated(made, "layers_per_block", 2),
        groups=stated(made, "norm_num_groups", 32),
        strength=stated(arguments, "conditioning_scale", 1.0),
        linear=stated(made, "use_linear_projection", False),
    )
