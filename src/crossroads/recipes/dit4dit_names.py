"""The names of DiT4DiT's weights (Mondo-Robotics/DiT4DiT) against ours."""

from __future__ import annotations

from crossroads.recipes.dit4dit_sizes import Dit4DitSize
from crossroads.recipes.groot_names import trunk_names
from crossroads.recipes.names import Renamed, cosmos_names, linear
from crossroads.towers.cosmos import Cosmos

VIDEO = "backbone_interface.extractor.transformer."
UNUSED = (r"backbone_interface\.extractor\.(vae|text_encoder)\..*",)  # frozen, from their own releases


def dit4dit_names(size: Dit4DitSize) -> tuple[Renamed, ...]:
    """The video model with its projection of words, and the head."""
    assert isinstance(size.video_tower, Cosmos)
    video = cosmos_names(
        "codecs.video",
        "towers.video",
        VIDEO,
        depth=size.video_tower.depth,
        patch=size.video.patch,
        dialect="diffusers",
    )
    words = linear("codecs.text.enter", f"{VIDEO}crossattn_proj.0")
    return (*video, *words, *head_names(size, "action_model."))


def head_names(size: Dit4DitSize, prefix: str = "") -> tuple[Renamed, ...]:
    """``FlowmatchingActionHead``: its ends and its trunk."""
    return (
        *linear("codecs.state.enter.layers.0", f"{prefix}state_encoder.layer1"),
        *linear("codecs.state.enter.layers.1", f"{prefix}state_encoder.layer2"),
        *linear("codecs.action.enter", f"{prefix}action_encoder.layer1"),
        *linear("codecs.action.told_in", f"{prefix}action_encoder.layer2"),
        *linear("codecs.action.told_out", f"{prefix}action_encoder.layer3"),
        Renamed(ours="codecs.action.places", theirs=(f"{prefix}position_embedding.weight",)),
        *linear("codecs.action.leave.layers.0", f"{prefix}action_decoder.layer1"),
        *linear("codecs.action.leave.layers.1", f"{prefix}action_decoder.layer2"),
        *trunk_names(size.head.depth, prefix),
    )
