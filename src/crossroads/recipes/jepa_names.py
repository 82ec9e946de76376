"""Names of V-JEPA 2-AC's published predictor (MIT) against ours; VLA-JEPA has the same."""

from __future__ import annotations

from crossroads.recipes.names import Renamed
from crossroads.towers.jepa import JepaPredictor

UNREAD = frozenset({"extrinsics_encoder.weight", "extrinsics_encoder.bias"})
"""The camera's pose, which no published model is given."""


def predictor_names(spec: JepaPredictor) -> tuple[Renamed, ...]:
    """The predictor with the ends of the stream of video; what stands in front of each step has names of its own."""
    pairs = {
        "codecs.video.enter": "predictor_embed",
        "codecs.video.leave": "predictor_proj",
        "towers.predictor.frame.norm": "predictor_norm",
    }
    for layer in range(spec.depth):
        ours, theirs = f"towers.predictor.layers.{layer}", f"predictor_blocks.{layer}"
        parts = {"norm_attention": "norm1", "norm_mlp": "norm2", "qkv": "attn.qkv", "out": "attn.proj"}
        parts |= {"up": "mlp.fc1", "down": "mlp.fc2"}
        pairs |= {f"{ours}.{mine}": f"{theirs}.{there}" for mine, there in parts.items()}
    if spec.context_width:
        pairs["towers.predictor.frame.read"] = "action_encoder"
    return tuple(
        Renamed(ours=f"{ours}.{part}", theirs=(f"{theirs}.{part}",))
        for ours, theirs in pairs.items()
        for part in ("weight", "bias")
    )
