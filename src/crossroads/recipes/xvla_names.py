"""The names of X-VLA's weights (2toinf/X-VLA, and LeRobot's folders of them, Apache-2.0) against ours.

Florence-2's are those of Microsoft's own code, as the releases have them (``modeling_florence2.py``).
"""

from __future__ import annotations

import re

import torch

from crossroads.codecs.florence import FlorenceNet, FlorencePictures
from crossroads.recipes.names import Renamed, linear
from crossroads.recipes.xvla_sizes import XvlaSize
from crossroads.towers.bart import Bart

UNUSED = (
    r".*language_model\.model\.encoder\.embed_tokens\.weight",  # one with the table of words
    r".*language_model\.final_logits_bias",
    r".*language_model\.(lm_head|model\.decoder)\..*",
    r".*visual_temporal_embed\.pos_idx_to_embed",
)
"""What writes words, which is never run; what is computed from sizes."""
TABLE, SAME_TABLE = (
    "{}vlm.language_model.model.shared.weight",
    "{}vlm.language_model.model.encoder.embed_tokens.weight",
)
"""One tensor, of which safetensors keeps one name."""
RULES = (
    (r"^convs\.(\d+)\.conv\.", r"convs.\1.proj."),
    (r"\.(conv[12])\.", r".\1.fn.dw."),
    (r"spatial_block\.norm1\.", "spatial_block.window_attn.norm."),
    (r"channel_block\.norm1\.", "channel_block.channel_attn.norm."),
    (r"\.norm2\.", ".ffn.norm."),
    (r"\.(window_attn|channel_attn)\.(qkv|proj)\.", r".\1.fn.\2."),
    (r"\.ffn\.(fc[12])\.", r".ffn.fn.net.\1."),
)
"""DaViT as transformers names it, to Microsoft's names."""
LAYER = {
    **{"out": "self_attn.out_proj", "norm_attention": "self_attn_layer_norm"},
    **{"up": "fc1", "down": "fc2", "norm_mlp": "final_layer_norm"},
}
POLICY = {"norm_attention": "norm1", "qkv": "attn.qkv", "out": "attn.proj", "norm_mlp": "norm2"}


def xvla_names(size: XvlaSize, prefix: str = "") -> tuple[Renamed, ...]:
    """Florence-2 and the transformer with its ends; LeRobot puts ``model.`` before each."""
    assert isinstance(size.image, FlorencePictures)
    assert isinstance(size.language, Bart)
    encoder, transformer = f"{prefix}vlm.language_model.model.encoder", f"{prefix}transformer"
    return (
        *florence_names(size.image, f"{prefix}vlm"),
        Renamed(ours="codecs.text.table.weight", theirs=(TABLE.format(prefix),)),
        *bart_names(size.language, encoder),
        *policy_names(size, transformer),
    )


def florence_names(spec: FlorencePictures, theirs: str) -> list[Renamed]:
    """DaViT, its places and the map into the language model."""
    with torch.device("meta"):
        names = [name for name, _ in FlorenceNet(spec).vision.named_parameters()]
    found = []
    for name in names:
        there = name
        for pattern, put in RULES:
            there = re.sub(pattern, put, there)
        found.append(Renamed(ours=f"codecs.image.net.vision.{name}", theirs=(f"{theirs}.vision_tower.{there}",)))
    here = "codecs.image.net"
    return [
        *found,
        Renamed(ours=f"{here}.rows", theirs=(f"{theirs}.image_pos_embed.row_embeddings.weight",)),
        Renamed(ours=f"{here}.columns", theirs=(f"{theirs}.image_pos_embed.column_embeddings.weight",)),
        Renamed(ours=f"{here}.project.weight", theirs=(f"{theirs}.image_projection",), shape="i o -> o i"),
        *linear(f"{here}.norm", f"{theirs}.image_proj_norm"),
    ]


def bart_names(spec: Bart, theirs: str) -> list[Renamed]:
    """BART's encoder without its table of words."""
    found = [
        Renamed(ours="towers.language.frame.places", theirs=(f"{theirs}.embed_positions.weight",)),
        *linear("towers.language.frame.norm", f"{theirs}.layernorm_embedding"),
    ]
    for layer in range(spec.depth):
        here, there = f"towers.language.layers.{layer}", f"{theirs}.layers.{layer}"
        found += linear(f"{here}.qkv", *(f"{there}.self_attn.{part}_proj" for part in "qkv"))
        for ours, name in LAYER.items():
            found += linear(f"{here}.{ours}", f"{there}.{name}")
    return found


def policy_names(size: XvlaSize, theirs: str) -> list[Renamed]:
    """X-VLA's own transformer and its ends."""
    handed = {"seen": "vlm_proj", "seen_others": "aux_visual_proj"}
    banked = bool(size.seen.robots)
    found = [Renamed(ours="towers.policy.frame.places", theirs=(f"{theirs}.pos_emb",), shape="1 n w -> n w")]
    found += linear("towers.policy.frame.norm", f"{theirs}.norm")
    if size.prompts:
        found.append(Renamed(ours="codecs.prompts.bank.bias", theirs=(f"{theirs}.soft_prompt_hub.weight",)))
    for ours, name in (("action.enter", "action_encoder"), ("action.leave", "action_decoder")):
        out = size.policy.width if ours == "action.enter" else size.action.action_size
        found += _banked(f"codecs.{ours}", f"{theirs}.{name}", out)
    for ours in ("seen", *(("seen_others",) if size.seen_others else ())):
        here, there = f"codecs.{ours}.enter", f"{theirs}.{handed[ours]}"
        found += _banked(here, there, size.policy.width) if banked else linear(here, there)
    for layer in range(size.policy.depth):
        here, there = f"towers.policy.layers.{layer}", f"{theirs}.blocks.{layer}"
        for ours, name in POLICY.items():
            found += linear(f"{here}.{ours}", f"{there}.{name}")
        found += linear(f"{here}.up", f"{there}.mlp.fc1") + linear(f"{here}.down", f"{there}.mlp.fc2")
    return found


def _banked(ours: str, theirs: str, outputs: int) -> list[Renamed]:
    """A map per domain, which published code keeps as rows of a table (``DomainAwareLinear``)."""
    return [
        Renamed(
            ours=f"{ours}.weight", theirs=(f"{theirs}.fc.weight",), shape="r (i o) -> r i o", axes=(("o", outputs),)
        ),
        Renamed(ours=f"{ours}.bias", theirs=(f"{theirs}.bias.weight",)),
    ]
