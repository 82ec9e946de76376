"""Names of ACT's weights in tonyzhaozh/act (MIT) against ours. ``network``: its ResNet's, too."""

from __future__ import annotations

from crossroads.recipes.act import ActSize
from crossroads.recipes.names import Renamed, linear
from crossroads.towers.classic import Classic


def act_names(size: ActSize) -> tuple[Renamed, ...]:
    """Everything but the picture network; what published code has beside these is fixed, or nothing trains it."""
    project = Renamed(
        ours="codecs.image.project.weight", theirs=("input_proj.weight",), shape="out into 1 1 -> out into"
    )
    return (
        *_layers("style_encoder", "encoder", size.style_encoder),
        *_layers("encoder", "transformer.encoder", size.encoder),
        *_layers("decoder", "transformer.decoder", size.decoder),
        Renamed(ours="towers.decoder.frame.places", theirs=("query_embed.weight",)),
        Renamed(ours="towers.encoder.frame.places", theirs=("additional_pos_embed.weight",)),
        project,
        Renamed(ours="codecs.image.project.bias", theirs=("input_proj.bias",)),
        Renamed(ours="codecs.style.tokens", theirs=("cls_embed.weight",)),
        *linear("codecs.style.leave", "latent_proj"),
        *linear("codecs.style_state.enter", "encoder_joint_proj"),
        *linear("codecs.style_action.enter", "encoder_action_proj"),
        *linear("codecs.plan.enter", "latent_out_proj"),
        *linear("codecs.state.enter", "input_proj_robot_state"),
        *linear("codecs.action.leave", "action_head"),
    )


def _layers(tower: str, theirs: str, spec: Classic) -> tuple[Renamed, ...]:
    names: list[Renamed] = []
    for layer in range(spec.depth):
        ours, there = f"towers.{tower}.layers.{layer}", f"{theirs}.layers.{layer}"
        names += _attention(f"{ours}.qkv", f"{ours}.out", f"{there}.self_attn")
        norms = ["norm_attention", *(["norm_cross"] if spec.context_width else []), "norm_mlp"]
        for number, norm in enumerate(norms, start=1):
            names += linear(f"{ours}.{norm}", f"{there}.norm{number}")
        if spec.context_width:
            names += _attention(f"{ours}.cross_qkv", f"{ours}.cross_out", f"{there}.multihead_attn")
        names += [*linear(f"{ours}.up", f"{there}.linear1"), *linear(f"{ours}.down", f"{there}.linear2")]
    if spec.last_norm:
        names += linear(f"towers.{tower}.frame.norm", f"{theirs}.norm")
    return tuple(names)


def _attention(ours: str, out: str, theirs: str) -> tuple[Renamed, ...]:
    """Queries, keys and values lie in one tensor on both sides."""
    return (
        Renamed(ours=f"{ours}.weight", theirs=(f"{theirs}.in_proj_weight",)),
        Renamed(ours=f"{ours}.bias", theirs=(f"{theirs}.in_proj_bias",)),
        *linear(out, f"{theirs}.out_proj"),
    )
