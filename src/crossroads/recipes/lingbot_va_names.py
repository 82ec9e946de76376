"""Names of LingBot-VA's released weights against ours (Robbyant/lingbot-va, Apache-2.0: ``WanTransformer3DModel``)."""

from __future__ import annotations

from crossroads.recipes.lingbot_va_sizes import LingBotVaSize
from crossroads.recipes.names import WAN_DIFFUSERS, Renamed, linear, wan_names

UNUSED = r"condition_embedder_action\.text_embedder\..*"
"""The text projection that came along when the level embedding was copied for the actions: nobody reads it."""


def lingbot_va_names(size: LingBotVaSize) -> tuple[Renamed, ...]:
    """The shared trunk. A patch enters as (channel, row, column) and leaves channels last."""
    patch = size.video.patch
    enter, bias = linear("codecs.video.enter", "patch_embedding_mlp")
    found = [
        Renamed(
            ours=enter.ours, theirs=enter.theirs, shape="w (c p q) -> w (p q c)", axes=(("p", patch), ("q", patch))
        ),
        bias,
        *linear("codecs.video.leave", "proj_out"),
        *linear("codecs.action.enter", "action_embedder"),
        *linear("codecs.action.leave", "action_proj_out"),
        Renamed(ours="towers.video.frame.head_table", theirs=("scale_shift_table",), shape="1 n w -> n w"),
        *wan_names("towers.video", "", size.video_tower.depth, "diffusers"),
    ]
    for part in ("level_in", "level_out", "level_project"):
        theirs = WAN_DIFFUSERS[part].replace("condition_embedder", "condition_embedder_action")
        found += linear(f"towers.video.frame.beside_{part}", theirs)
    return tuple(found)
