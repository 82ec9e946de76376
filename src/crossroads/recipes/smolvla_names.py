"""The names of SmolVLA's weights (LeRobot ``VLAFlowMatching``) against ours."""

from __future__ import annotations

from crossroads.recipes.names import Renamed, gemma_names, linear, siglip_names, weight_of
from crossroads.recipes.smolvla import SmolVlaSize

UNUSED = (r"model\.vlm_with_expert\.vlm\.lm_head\.weight", r"(un)?normalize_.*")  # never run; the data's statistics


def smolvla_names(size: SmolVlaSize, prefix: str = "model.") -> tuple[Renamed, ...]:
    """The language model's layers that are left, its vision tower and connector, the expert and the ends."""
    vlm = f"{prefix}vlm_with_expert.vlm.model"
    return (
        weight_of("codecs.text.table", f"{vlm}.text_model.embed_tokens"),
        *siglip_names("codecs.image", f"{vlm}.vision_model", size.image.depth),
        weight_of("codecs.image.project", f"{vlm}.connector.modality_projection.proj"),
        *linear("codecs.state.enter", f"{prefix}state_proj"),
        *linear("codecs.action.enter", f"{prefix}action_in_proj"),
        *linear("codecs.action.leave", f"{prefix}action_out_proj"),
        *linear("codecs.action.told_in", f"{prefix}action_time_mlp_in"),
        *linear("codecs.action.told_out", f"{prefix}action_time_mlp_out"),
        *gemma_names("towers.language", f"{vlm}.text_model", size.language.depth),
        *gemma_names("towers.expert", f"{prefix}vlm_with_expert.lm_expert", size.expert.depth),
    )
