"""The names of the weights of mimic-video's action transformer (``World2ActionDIT``) against ours."""

from __future__ import annotations

from crossroads.recipes.mimic_video_sizes import MimicVideoSize
from crossroads.recipes.names import Renamed, linear, weight_of

PAIR = {"level_in": "proj_x", "heard_in": "proj_c", "level_pair": "B", "heard_pair": "C"}
BLOCK = {
    "cross_q": "cross_attn.q_proj",
    "cross_k": "cross_attn.k_proj",
    "cross_v": "cross_attn.v_proj",
    "cross_out": "cross_attn.output_proj",
    "norm_cross_q": "cross_attn.q_norm",
    "norm_cross_k": "cross_attn.k_norm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.output_proj",
    "norm_q": "self_attn.q_norm",
    "norm_k": "self_attn.k_norm",
    "up": "mlp.layer1",
    "down": "mlp.layer2",
    "cross_narrow": "adaln_modulation_cross_attn.1",
    "cross_wide": "adaln_modulation_cross_attn.2",
    "narrow": "adaln_modulation_self_attn.1",
    "wide": "adaln_modulation_self_attn.2",
    "mlp_narrow": "adaln_modulation_mlp.1",
    "mlp_wide": "adaln_modulation_mlp.2",
}


def mimic_names(size: MimicVideoSize, layers: tuple[int, ...], prefix: str = "") -> tuple[Renamed, ...]:
    """The action transformer; ``layers``: the numbers that the maps of its embedders have."""
    frame = "towers.expert.frame"
    found = [
        Renamed(ours="codecs.state.mask_token", theirs=(f"{prefix}obs_mask_token",), shape="1 1 w -> w"),
        Renamed(ours=f"{frame}.places", theirs=(f"{prefix}pos_embedding",), shape="1 n w -> n w"),
        *linear(f"{frame}.context_norm", f"{prefix}ctx_norm"),
        *(
            entry
            for ours, theirs in PAIR.items()
            for entry in linear(f"{frame}.{ours}", f"{prefix}t_embedder.pair.{theirs}")
        ),
        weight_of(f"{frame}.shared", f"{prefix}t_embedder.pair.A"),
        weight_of(f"{frame}.level_norm", f"{prefix}t_embedding_norm"),
        weight_of(f"{frame}.head_narrow", f"{prefix}final_layer.adaln_modulation.1"),
        weight_of(f"{frame}.head_wide", f"{prefix}final_layer.adaln_modulation.2"),
        weight_of("codecs.action.leave", f"{prefix}final_layer.linear"),
    ]
    for stream, theirs in (("state", "obs_embedder"), ("action", "action_embedder")):
        for number, layer in enumerate(layers):
            ours = f"codecs.{stream}.enter" + (f".layers.{number}" if len(layers) > 1 else "")
            found += linear(ours, f"{prefix}{theirs}.layers.{layer}")
    for layer in range(size.expert.depth):
        found += [
            weight_of(f"towers.expert.layers.{layer}.{ours}", f"{prefix}blocks.{layer}.{theirs}")
            for ours, theirs in BLOCK.items()
        ]
    return tuple(found)
