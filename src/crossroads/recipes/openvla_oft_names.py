"""The names of OpenVLA-OFT's weights (moojink/openvla-oft) against ours."""

from __future__ import annotations

from crossroads.codecs.fused_pixels import FusedPatches
from crossroads.recipes.names import Renamed, gemma_names, linear, weight_of
from crossroads.recipes.openvla_oft import OpenVlaOftSize

START, BLANK, STOP = 1, 29871, 2
"""Rows of Llama 2's table of words: the mark before everything, the last of the prompt, the one behind the actions."""
FEATURIZERS = ("featurizer", "fused_featurizer")


def unused(size: OpenVlaOftSize, vla: str = "") -> tuple[str, ...]:
    """Patterns: what comes after the states that are read, and the head for words."""
    assert isinstance(size.image, FusedPatches)
    pairs = zip(FEATURIZERS, size.image.towers, strict=True)
    last = (rf"{vla}vision_backbone\.{name}\.blocks\.{tower.depth}\..*" for name, tower in pairs)
    return (
        *last,
        rf"{vla}vision_backbone\.(fused_)?featurizer\.(norm|attn_pool)\..*",
        rf"{vla}language_model\.lm_head\.weight",
    )


def openvla_oft_names(
    size: OpenVlaOftSize, *, vla: str = "", start: int = START, blank: int = BLANK, stop: int = STOP
) -> tuple[Renamed, ...]:
    """``vla``: the prefix of the model beside the head. The numbers: rows of the table of words."""
    assert isinstance(size.image, FusedPatches)
    table = f"{vla}language_model.model.embed_tokens"
    found = [
        weight_of("codecs.text.table", table),
        Renamed(ours="codecs.start.tokens", theirs=(f"{table}.weight",), row=start),
        Renamed(ours="codecs.action.mark", theirs=(f"{table}.weight",), row=blank),
        Renamed(ours="codecs.end.tokens", theirs=(f"{table}.weight",), row=stop),
        *gemma_names("towers.language", f"{vla}language_model.model", size.language.depth),
        *_head(size),
    ]
    for layer in range(3):
        found += linear(f"codecs.image.project.{layer}", f"{vla}projector.fc{layer + 1}")
    for layer in range(2 if size.state else 0):
        found += linear(f"codecs.state.enter.layers.{layer}", f"proprio_projector.fc{layer + 1}")
    for number, name in enumerate(FEATURIZERS):
        found += _vision(f"codecs.image.towers.{number}", f"{vla}vision_backbone.{name}", size.image, number)
    return tuple(found)


def _head(size: OpenVlaOftSize) -> list[Renamed]:
    """``MLPResNet``."""
    there = "action_head.model"
    found = [
        *linear("codecs.action.norm_in", f"{there}.layer_norm1"),
        *linear("codecs.action.enter", f"{there}.fc1"),
        *linear("codecs.action.norm_out", f"{there}.layer_norm2"),
        *linear("codecs.action.leave", f"{there}.fc2"),
    ]
    for block in range(size.action.blocks):
        found += linear(f"codecs.action.blocks.{block}.norm", f"{there}.mlp_resnet_blocks.{block}.ffn.0")
        found += linear(f"codecs.action.blocks.{block}.linear", f"{there}.mlp_resnet_blocks.{block}.ffn.1")
    return found


def _vision(ours: str, theirs: str, image: FusedPatches, number: int) -> list[Renamed]:
    """A vision transformer as timm names it."""
    tower = image.towers[number]
    learned = {"position": "pos_embed"}
    learned |= {"marks.class_token": "cls_token"} if tower.class_token else {}
    learned |= {"marks.registers": "reg_token"} if tower.registers else {}
    found = [
        *linear(f"{ours}.enter", f"{theirs}.patch_embed.proj"),
        *(
            Renamed(ours=f"{ours}.{here}", theirs=(f"{theirs}.{there}",), shape="1 n w -> n w")
            for here, there in learned.items()
        ),
    ]
    for layer in range(tower.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.blocks.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.norm1") + linear(f"{here}.norm_mlp", f"{there}.norm2")
        found += linear(f"{here}.qkv", f"{there}.attn.qkv") + linear(f"{here}.out", f"{there}.attn.proj")
        found += linear(f"{here}.up", f"{there}.mlp.fc1") + linear(f"{here}.down", f"{there}.mlp.fc2")
        if tower.layer_scale:
            scales = tuple(f"{there}.ls{half}.scale_factor" for half in (1, 2))
            found.append(Renamed(ours=f"{here}.scales", theirs=scales, shape="w -> 1 w"))
    return found
