"""The names of UVA's published weights (ShuangLI59/unified_video_action, MIT; class ``MAR``) in our networks."""

from __future__ import annotations

import re

SLOTS = (
    (r"^z_proj_cond\.", "enters.seen."),
    (r"^z_proj\.", "enters.future."),
    (r"^z_proj_wrist\.", "enters.wrist."),
    (r"^action_proj_cond\.", "enters.action."),
    (r"^history_action_proj_cond\.", "enters.history."),
    (r"^proprioception_image_proj_cond\.", "enters.image."),
    (r"^proprioception_proj_cond\.", "enters.state."),
    (r"^fake_latent_x$", "blanks.picture"),
    (r"^fake_latent_wrist_x$", "blanks.wrist"),
    (r"^fake_action_latent$", "blanks.action"),
    (r"^fake_latent_history_action$", "blanks.history"),
    (r"^proj_cond_x_layer", "fuse"),
    (r"^z_proj_ln", "norm_fused"),
    (r"^text_proj_cond", "told"),
    (r"^text_pos_embed$", "word_places"),
    (r"^decoder_text_pos_embed$", "word_places_out"),
    (r"^temporal_pos_embed$", "slots.time"),
    (r"^spatial_pos_embed$", "slots.place"),
    (r"^decoder_temporal_pos_embed$", "slots_out.time"),
    (r"^decoder_spatial_pos_embed$", "slots_out.place"),
    (r"^diffusion_temporal_embed$", "slots_read.time"),
    (r"^diffusion_spatial_embed$", "slots_read.place"),
    (r"^decoder_embed", "between"),
    (r"^encoder_norm", "norm_encoder"),
    (r"^decoder_norm", "norm"),
    (r"^(encoder|decoder)_blocks", r"\1"),
    (r"attn\.qkv", "own.qkv"),
    (r"attn\.proj", "own.out"),
    (r"mlp\.fc1", "up"),
    (r"mlp\.fc2", "down"),
    (r"norm1", "norm_own"),
    (r"norm2", "norm_mlp"),
)
HEAD = (
    (r"^net\.time_embed\.mlp\.0", "step_in"),
    (r"^net\.time_embed\.mlp\.2", "step_out"),
    (r"^net\.cond_embed", "state_in"),
    (r"^net\.input_proj", "token_in"),
    (r"^net\.res_blocks", "blocks"),
    (r"^net\.final_layer\.linear", "leave"),
    (r"^net\.final_layer\.adaLN_modulation\.1", "told"),
    (r"in_ln", "norm"),
    (r"mlp\.0", "up"),
    (r"mlp\.2", "down"),
    (r"adaLN_modulation\.1", "told"),
    (r"^conv\.0", "conv"),
    (r"^conv\.2", "over_slots"),
    (r"^conv_transpose3d", "conv"),
    (r"^fc\.0", "flat"),
    (r"^fc\.2", "map"),
    (r"^interpolate", "over_time"),
    (r"^refine\.0", "refine_in"),
    (r"^refine\.2", "refine_out"),
)
"""Published names to ours, one after the other."""


def slots_name(published: str) -> str:
    """Our name of a weight of the transformer."""
    return _renamed(published, SLOTS)


def head_name(published: str) -> str:
    """Our name of a weight of a head, without the head's own name before it."""
    return _renamed(published, HEAD)


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in pairs:
        name = re.sub(pattern, ours, name)
    return name
