"""Names of published weights of space-time blocks against ours (DreamDojo and 1X's STMaskGIT, Apache-2.0)."""

from __future__ import annotations

from crossroads.codecs.masked_clip import MaskedClip
from crossroads.codecs.motion_transformer import MotionTransformer
from crossroads.codecs.space_time import SpaceTime
from crossroads.recipes.names import Renamed


def dreamdojo_names(spec: MotionTransformer, prefix: str = "") -> tuple[Renamed, ...]:
    """Every weight of DreamDojo's latent action model but the frequencies of its rotation, which are known.

    Published patches have their channels innermost."""
    p = spec.patch
    inwards = "o (h w c) -> o (c h w)", (("h", p), ("w", p), ("c", 3))
    outwards = "(h w c) ... -> (c h w) ...", inwards[1]
    found = [
        Renamed(ours="prompt", theirs=("action_prompt",), shape="1 1 1 (h w c) -> (c h w)", axes=inwards[1]),
        *(Renamed(ours=f"gather.{part}", theirs=(f"fc.{part}",)) for part in PARTS),
        Renamed(ours="patch_up.weight", theirs=("patch_up.weight",), shape=inwards[0], axes=inwards[1]),
        Renamed(ours="patch_up.bias", theirs=("patch_up.bias",)),
        *(Renamed(ours=f"action_up.{part}", theirs=(f"action_up.{part}",)) for part in PARTS),
        Renamed(ours="enter.enter.weight", theirs=("encoder.ffn.1.weight",), shape=inwards[0], axes=inwards[1]),
        Renamed(ours="enter.enter.bias", theirs=("encoder.ffn.1.bias",)),
        *(
            Renamed(ours=f"enter.norm.{part}", theirs=(f"encoder.ffn.0.{part}",), shape=outwards[0], axes=outwards[1])
            for part in PARTS
        ),
        *(Renamed(ours=f"enter_decoder.norm.{part}", theirs=(f"decoder.ffn.0.{part}",)) for part in PARTS),
        *(Renamed(ours=f"enter_decoder.enter.{part}", theirs=(f"decoder.ffn.1.{part}",)) for part in PARTS),
        *(Renamed(ours=f"enter.norm_after.{part}", theirs=(f"encoder.ffn.2.{part}",)) for part in PARTS),
        *(Renamed(ours=f"enter_decoder.norm_after.{part}", theirs=(f"decoder.ffn.2.{part}",)) for part in PARTS),
        *(Renamed(ours=f"leave.{part}", theirs=(f"encoder.out.{part}",)) for part in PARTS),
        *(
            Renamed(ours=f"pixels.{part}", theirs=(f"decoder.out.{part}",), shape=outwards[0], axes=outwards[1])
            for part in PARTS
        ),
    ]
    for name, blocks in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        for layer in range(blocks.depth):
            found += _dreamdojo_block(f"{name}.blocks.{layer}", f"{name}.transformer_blocks.{layer}", blocks)
    return tuple(Renamed(ours=prefix + one.ours, theirs=one.theirs, shape=one.shape, axes=one.axes) for one in found)


PARTS = ("weight", "bias")


def frequencies(spec: MotionTransformer) -> frozenset[str]:
    """Published tensors that are no weights."""
    here = "encoder.transformer_blocks.{}.temporal_attn.rotary_embedding.freqs"
    return frozenset(here.format(layer) for layer in range(spec.encoder.depth))


def _dreamdojo_block(ours: str, theirs: str, spec: SpaceTime) -> list[Renamed]:
    norms = ("space_norm", "time_norm", "norm") if spec.over_time else ("space_norm", "norm")
    found = [
        Renamed(ours=f"{ours}.{norm}.{part}", theirs=(f"{theirs}.norm{index + 1}.{part}",))
        for index, norm in enumerate(norms)
        for part in PARTS
    ]
    for mine, there in (("up", "ffn.0"), ("down", "ffn.3")):
        found += [Renamed(ours=f"{ours}.{mine}.{part}", theirs=(f"{theirs}.{there}.{part}",)) for part in PARTS]
    for mine, there in (("space", "spatial_attn"), ("time", "temporal_attn"))[: 2 if spec.over_time else 1]:
        mapped = tuple(f"{theirs}.{there}.to_{letter}.weight" for letter in "qkv")
        found.append(Renamed(ours=f"{ours}.{mine}.qkv.weight", theirs=mapped))
        found += [Renamed(ours=f"{ours}.{mine}.out.{p}", theirs=(f"{theirs}.{there}.to_out.0.{p}",)) for p in PARTS]
    return found


def masked_clip_names(spec: MaskedClip, prefix: str = "") -> tuple[Renamed, ...]:
    """Every weight of STMaskGIT."""
    found = [
        Renamed(ours="mask", theirs=("token_embed.mask_token_embed",), shape="1 d -> d"),
        Renamed(ours="places", theirs=("pos_embed_TSC",), shape="1 t n d -> t n d"),
        *(
            Renamed(ours=f"tables.{digit}.weight", theirs=(f"token_embed.factored_embeds.{digit}.weight",))
            for digit in range(spec.num_digits)
        ),
        *(Renamed(ours=f"scores.{part}", theirs=(f"out_x_proj.{part}",)) for part in PARTS),
    ]
    blocks = spec.blocks
    for layer in range(blocks.depth):
        ours, theirs = f"blocks.blocks.{layer}", f"decoder.layers.{layer}"
        maps = [("up", "mlp.fc1", blocks.mlp_bias), ("down", "mlp.fc2", blocks.mlp_bias)]
        for mine, there in (("space", "spatial_attn"), ("time", "temporal_attn")):
            maps += [
                (f"{mine}.qkv", f"{there}.qkv", blocks.qkv_bias),
                (f"{mine}.out", f"{there}.proj", blocks.out_bias),
            ]
            maps += [(f"{mine}.qk_norm", f"{there}.norm", True)] * blocks.qk_norm
        maps += [] if blocks.qk_norm else [("space_norm", "norm1", True), ("norm", "norm2", True)]
        for mine, there, biased in maps:
            for part in PARTS if biased else PARTS[:1]:
                found.append(Renamed(ours=f"{ours}.{mine}.{part}", theirs=(f"{theirs}.{there}.{part}",)))
    return tuple(Renamed(ours=prefix + one.ours, theirs=one.theirs, shape=one.shape, axes=one.axes) for one in found)
