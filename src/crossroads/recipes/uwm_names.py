"""The names of UWM's weights (WEIRDLabUW/unified-world-model) against ours, without its encoder of pictures."""

from __future__ import annotations

from crossroads.recipes.names import Renamed, linear
from crossroads.recipes.uwm_sizes import UwmSize


def uwm_names(size: UwmSize, prefix: str = "noise_pred_net.") -> tuple[Renamed, ...]:
    """``UnifiedWorldModel.noise_pred_net``."""
    patch = "obs_patchifier.patch"
    sides = (("t", size.video.stacked), ("p", size.video.patch), ("q", size.video.patch))
    registers = Renamed(ours="codecs.registers.tokens", theirs=(f"{prefix}registers",), shape="1 n w -> n w")
    return (
        *linear("codecs.action.enter.layers.0", f"{prefix}action_encoder.0"),
        *linear("codecs.action.enter.layers.1", f"{prefix}action_encoder.2"),
        *linear("codecs.action.leave.layers.0", f"{prefix}action_decoder.0"),
        *linear("codecs.action.leave.layers.1", f"{prefix}action_decoder.2"),
        Renamed(
            ours="codecs.video.enter.weight",
            theirs=(f"{prefix}{patch}_encoder.weight",),
            shape="w c t p q -> w (t c p q)",
            axes=sides,
        ),
        Renamed(ours="codecs.video.enter.bias", theirs=(f"{prefix}{patch}_encoder.bias",)),
        Renamed(
            ours="codecs.video.leave.weight",
            theirs=(f"{prefix}{patch}_decoder.weight",),
            shape="(c t p q) w -> (t c p q) w",
            axes=sides,
        ),
        Renamed(
            ours="codecs.video.leave.bias",
            theirs=(f"{prefix}{patch}_decoder.bias",),
            shape="(c t p q) -> (t c p q)",
            axes=sides,
        ),
        *([registers] if size.registers.num else []),
        Renamed(ours="towers.model.frame.places", theirs=(f"{prefix}pos_embed",), shape="1 n w -> n w"),
        *linear("towers.model.frame.level_in", f"{prefix}timestep_embedding.proj.0"),
        *linear("towers.model.frame.level_out", f"{prefix}timestep_embedding.proj.2"),
        *linear("towers.model.frame.ends.0", f"{prefix}head.adaLN_modulation.1"),
        *linear("towers.model.frame.out", f"{prefix}head.linear"),
        *(entry for layer in range(size.tower.depth) for entry in dit_names(layer, f"{prefix}blocks.{layer}")),
    )


def dit_names(layer: int, theirs: str) -> tuple[Renamed, ...]:
    """One block of a diffusion transformer with the names of timm and DiT."""
    ours = f"towers.model.layers.{layer}"
    return (
        *linear(f"{ours}.told", f"{theirs}.adaLN_modulation.1"),
        *linear(f"{ours}.qkv", f"{theirs}.attn.qkv"),
        *linear(f"{ours}.out", f"{theirs}.attn.proj"),
        *linear(f"{ours}.up", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}.down", f"{theirs}.mlp.fc2"),
    )
