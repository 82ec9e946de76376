"""The names of PAD's weights (Robert-gyj/Prediction_with_Action) against ours."""

from __future__ import annotations

from crossroads.recipes.names import Renamed, linear
from crossroads.recipes.pad_sizes import PadSize
from crossroads.recipes.uwm_names import dit_names

FRAME = "towers.model.frame"


def pad_names(size: PadSize, words: str = "text", depth_patch: int = 0) -> tuple[Renamed, ...]:
    """``DiT``; ``words``: the stream whose map is the published one; ``depth_patch``: of its maps of depth, if any."""
    ends = ("action", "depth", "video") if depth_patch else ("action", "video")
    kinds = {"action": "a_", "depth": "d_", "video": ""}
    return (
        *_pictures("video", "x_embedder.proj", "final_layer.linear", size.video.patch),
        *(_pictures("depth", "d_embedder.proj", "final_layer.d_linear", depth_patch) if depth_patch else ()),
        *linear("codecs.action.enter", "a_embedder"),
        *linear("codecs.action.leave", "final_layer.a_linear"),
        *(linear(f"towers.model.told_by.{words}", "y_embedder.embedding_table") if words else ()),
        *linear(f"{FRAME}.level_in", "t_embedder.mlp.0"),
        *linear(f"{FRAME}.level_out", "t_embedder.mlp.2"),
        *(
            entry
            for number, end in enumerate(ends)
            for entry in linear(f"{FRAME}.ends.{number}", f"final_layer.{kinds[end]}adaLN_modulation.1")
        ),
        *(entry for layer in range(size.tower.depth) for entry in dit_names(layer, f"blocks.{layer}")),
    )


def _pictures(stream: str, enter: str, leave: str, patch: int) -> tuple[Renamed, ...]:
    """A patch enters as (channel, row, column); it leaves channels last, all variances behind all noise."""
    sides = (("p", patch), ("q", patch), ("two", 2))
    ways = {"weight": "(p q two c) w -> (two c p q) w", "bias": "(p q two c) -> (two c p q)"}
    return (
        Renamed(
            ours=f"codecs.{stream}.enter.weight",
            theirs=(f"{enter}.weight",),
            shape="w c p q -> w (c p q)",
            axes=sides[:2],
        ),
        Renamed(ours=f"codecs.{stream}.enter.bias", theirs=(f"{enter}.bias",)),
        *(
            Renamed(ours=f"codecs.{stream}.leave.{kind}", theirs=(f"{leave}.{kind}",), shape=shape, axes=sides)
            for kind, shape in ways.items()
        ),
    )
