"""The names of Diffusion Policy's published weights (real-stanford/diffusion_policy, MIT) in our networks."""

from __future__ import annotations

import re

UNET = (
    (r"^diffusion_step_encoder\.1", "step_in"),
    (r"^diffusion_step_encoder\.3", "step_out"),
    (r"^(down|up)_modules", r"\1"),
    (r"^mid_modules", "middle"),
    (r"^local_cond_encoder", "local"),
    (r"^final_conv\.0\.block", "leave_conv"),
    (r"^final_conv\.1", "leave"),
    (r"blocks\.0\.block", "first"),
    (r"blocks\.1\.block", "second"),
    (r"(first|second|leave_conv)\.0\.", r"\1.conv."),
    (r"(first|second|leave_conv)\.1\.", r"\1.norm."),
    (r"cond_encoder\.1", "told"),
    (r"residual_conv", "skip"),
    (r"^((down|up)\.\d+\.2)\.conv", r"\1"),
)
TRANSFORMER = (
    (r"^cond_pos_emb$", "read_places"),
    (r"^pos_emb$", "places"),
    (r"^cond_obs_emb", "seen"),
    (r"^input_emb", "enter"),
    (r"^head", "leave"),
    (r"^ln_f", "norm"),
    (r"^encoder\.0", "read_in"),
    (r"^encoder\.2", "read_out"),
    (r"^decoder\.layers", "layers"),
    (r"self_attn\.in_proj_", "own.qkv."),
    (r"self_attn\.out_proj", "own.out"),
    (r"multihead_attn\.in_proj_", "read.qkv."),
    (r"multihead_attn\.out_proj", "read.out"),
    (r"linear1", "up"),
    (r"linear2", "down"),
    (r"norm1", "norm_own"),
)
"""Published names to ours, one after the other."""


def unet_name(published: str) -> str:
    """Our name of a weight of ``ConditionalUnet1D``."""
    name = published
    for pattern, ours in UNET:
        name = re.sub(pattern, ours, name)
    return name


def transformer_name(published: str, *, reads: bool = True) -> str:
    """Our name of a weight of ``TransformerForDiffusion``; ``reads``: it has a decoder that reads an encoder. The ends
    ``enter`` and ``leave`` are those of the stream of actions."""
    name = published
    for pattern, ours in TRANSFORMER:
        name = re.sub(pattern, ours, name)
    name = re.sub(r"^encoder\.layers", "read_layers" if reads else "layers", name)
    two_norms = not name.startswith("layers") or not reads
    name = re.sub(r"norm2", "norm_mlp" if two_norms else "norm_read", name)
    return re.sub(r"norm3", "norm_mlp", name)
