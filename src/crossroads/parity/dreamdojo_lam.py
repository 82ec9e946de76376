"""DreamDojo's latent action model as recorded from its published class (arXiv 2602.06949, Apache-2.0)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from crossroads.codecs.motion_transformer import MotionTransformer, MotionTransformerNet, divergence, dreamdojo_blocks
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, load_module
from crossroads.recipes.motion_names import dreamdojo_names, frequencies


def spec_of(case: GoldenCase) -> MotionTransformer:
    """Our value with the numbers of a recorded case."""
    made = case.meta["constructor"]
    made.demand({"in_dim": 3})
    rows, columns = case.inputs["videos"].shape[2:4]
    width, heads = made["model_dim"], made["num_heads"]
    return MotionTransformer(
        image_hw=(rows, columns),
        patch=made["patch_size"],
        encoder=dreamdojo_blocks(width, heads, made["enc_blocks"], causal=False),
        decoder=dreamdojo_blocks(width, heads, made["dec_blocks"], causal=False, over_time=False),
        code_size=made["latent_dim"],
    )


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """Everything that a case records: with the mean for the draw (``eval``), and from saved draws (``train``)."""
    spec = spec_of(case)
    net = MotionTransformerNet(spec).eval()
    load_module(net, dreamdojo_names(spec), case.weights, unused=frequencies(spec))
    frames = rearrange(case.inputs["videos"], "b t h w c -> b t c h w")
    noise = rearrange(case.inputs["reparam_noise"], "(b f) c -> b f 1 c", b=len(frames))
    with hearing(net.encoder.blocks[0]) as heard:
        latent, _ = net.latent(frames)
    found = net.gathered(frames)
    mean, spread = found.flatten(0, 1).chunk(2, dim=-1)
    drawn = net(frames, noise)

    def pictures(x: Tensor) -> Tensor:
        return rearrange(x, "b t c h w -> b t h w c")

    return Produced(
        outputs={
            "eval.z_rep": latent,
            "eval.z_mu": mean,
            "eval.z_var": spread,
            "eval.recon": pictures(net.decoded(frames[:, :-1], latent)),
            "eval.encoder_block0": heard[0],
            "train.recon": pictures(drawn.next),
            "train.z_rep": drawn.latent,
            "train.mse": ((drawn.next - frames[:, 1:]) ** 2).mean()[None],
            "train.kl": divergence(found).mean()[None],
        }
    )
