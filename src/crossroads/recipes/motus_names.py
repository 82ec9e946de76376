"""The names of Motus' weights (thu-ml/Motus) against ours."""

from __future__ import annotations

from crossroads.codecs.scene import SceneFeatures
from crossroads.recipes.motus_sizes import MotusSize
from crossroads.recipes.names import Renamed, linear, wan_ends, wan_names, weight_of
from crossroads.towers.motus import MotusExpert

UNUSED = (  # places are computed; the frozen backbones are loaded from their own releases; modules are listed twice
    r"action_expert\.input_encoder\.pos_embedding",
    r"pipeline_(chunk|stage)_embedding\.weight",
    r"(vlm_model|video_module|und_module|action_module|video_model\.vae)\..*",
)


def motus_names(size: MotusSize, *, video: str = "video_model.wan_model.") -> tuple[Renamed, ...]:
    """The three towers; ``video``: the prefix of the Wan model, which recordings shorten."""
    assert isinstance(size.expert, MotusExpert)
    assert isinstance(size.language, MotusExpert)
    assert isinstance(size.image, SceneFeatures)
    ends = "action_expert.input_encoder"
    found = [
        *wan_ends("codecs.video", "towers.video", video, size.video.patch, "original"),
        *wan_names("towers.video", video, size.video_tower.depth, "original"),
        *_expert("towers.expert", "action_expert", "action", size.expert),
        *linear("towers.expert.frame.level_in", "action_expert.time_embedding.0"),
        *linear("towers.expert.frame.level_out", "action_expert.time_embedding.2"),
        *linear("towers.expert.frame.level_project", "action_expert.time_projection.1"),
        _flat("towers.expert.frame.head_table", "action_expert.decoder.modulation"),
        _flat("codecs.registers.tokens", "action_expert.registers"),
        *linear("codecs.action.leave", "action_expert.decoder.action_head.0"),
        *_expert("towers.language", "und_expert", "und", size.language),
    ]
    entries = {
        "codecs.action.enter": (f"{ends}.action_encoder", len(size.action.hidden)),
        "codecs.state.enter": (f"{ends}.state_encoder", len(size.state.hidden)),
        "codecs.image.enter": ("und_expert.vlm_adapter", len(size.image.hidden)),
    }
    for ours, (theirs, hidden) in entries.items():
        for layer in range(1 + hidden):  # published counts what stands between the layers, too
            found += linear(f"{ours}.layers.{layer}", f"{theirs}.{2 * layer}")
    return tuple(found)


def _expert(ours: str, theirs: str, kind: str, size: MotusExpert) -> list[Renamed]:
    """The layers of one expert; published queries, keys and values are one tensor, split into heads."""
    found = []
    for layer in range(size.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.blocks.{layer}"
        found += [
            Renamed(
                ours=f"{here}.qkv.weight",
                theirs=(f"{there}.wan_{kind}_qkv",),
                shape="three h w d -> (three h d) w",
                axes=(("three", 3), ("h", size.heads)),
            ),
            weight_of(f"{here}.out", f"{there}.wan_{kind}_o"),
            weight_of(f"{here}.norm_q", f"{there}.wan_{kind}_norm_q"),
            weight_of(f"{here}.norm_k", f"{there}.wan_{kind}_norm_k"),
            *linear(f"{here}.up", f"{there}.ffn.0"),
            *linear(f"{here}.down", f"{there}.ffn.2"),
        ]
        if size.acts:
            found.append(_flat(f"{here}.table", f"{there}.modulation"))
    return found


def _flat(ours: str, theirs: str) -> Renamed:
    return Renamed(ours=ours, theirs=(theirs,), shape="1 n w -> n w")
