"""The names of the weights of GR-1 (bytedance/GR-1), Seer and DreamVLA against ours."""

from __future__ import annotations

from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.resampler import Resampler
from crossroads.recipes.dreamvla_sizes import DreamVlaSize
from crossroads.recipes.foresight_sizes import ForesightSize
from crossroads.recipes.names import Renamed, linear, weight_of
from crossroads.towers.plain import Gpt

GR1_UNUSED = (r"transformer\.wte\.weight", r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
"""Patterns: an empty table of words, and masks."""
GR1_CAMERAS = (("embed_patch", "embed_img"), ("embed_hand_patch", "embed_hand_img"))
"""The maps of each camera's patches and of its class token."""


def gr1_names(size: ForesightSize) -> tuple[Renamed, ...]:
    """GR-1's trained weights; its frozen encoders are loaded from their own releases."""
    found = [
        *linear("codecs.text.enter", "embed_lang"),
        *linear("codecs.state.arm", "embed_arm_state"),
        *linear("codecs.state.gripper", "embed_gripper_state"),
        *linear("codecs.state.enter", "embed_state"),
        *resampler_names(size.image.resampler),
        Renamed(ours="towers.policy.frame.steps", theirs=("embed_timestep.weight",)),
        *linear("towers.policy.frame.norm_in", "embed_ln"),
        *gpt_names(size.tower, "transformer"),
    ]
    for number, (patches, whole) in enumerate(GR1_CAMERAS[: len(size.image.cameras)]):
        found += linear(f"codecs.image.patches.{number}", patches) + linear(f"codecs.image.classes.{number}", whole)
    if size.action:
        found.append(Renamed(ours="codecs.action.queries", theirs=("action_queries.weight",)))
        for layer in range(len(size.action.hidden)):
            found += linear(f"codecs.action.layers.{layer}", f"pred_act_mlps.{layer}")
        found += linear("codecs.action.arm", "pred_arm_act") + linear("codecs.action.gripper", "pred_gripper_act")
    if size.video:
        queries = ("obs_queries.weight", "obs_hand_queries.weight")[: len(size.video.cameras)]
        found.append(Renamed(ours="codecs.video.queries", theirs=queries))
        found.append(Renamed(ours="codecs.video.decoder.mask", theirs=("mask_token",), shape="1 1 1 w -> w"))
        found += decoder_names(size.video, "decoder_embed", "decoder_blocks", "decoder_norm", "decoder_pred")
    return tuple(found)


SEER_UNUSED = (
    r"transformer_backbone\.(wte|wpe)\.weight",
    r"transformer_backbone\.h\.\d+\.attn\.(bias|masked_bias)",
    r"action_(pose_encoder|gripper_position_encoder|projector)\..*",
    r"recon_.*",
    r"attention_mask|vision_encoder\.d",
)
"""Patterns: maps of what is not asked for, masks, and an empty placeholder."""
SEER_CAMERAS = ("primary", "wrist")


def seer_names(size: ForesightSize) -> tuple[Renamed, ...]:
    """Seer's trained weights."""
    found = seer_trunk_names(size)
    if size.action:
        found.append(Renamed(ours="codecs.action.queries", theirs=("action_pred_token",), shape="1 1 n w -> n w"))
        for layer in range(len(size.action.hidden)):
            found += linear(f"codecs.action.layers.{layer}", f"action_decoder.{2 * layer}")
        found += linear("codecs.action.arm", "arm_action_decoder.0")
        found += linear("codecs.action.gripper", "gripper_action_decoder.0")
    if size.video:
        found.append(Renamed(ours="codecs.video.queries", theirs=("obs_tokens",), shape="1 1 n w -> n w"))
        found.append(Renamed(ours="codecs.video.decoder.mask", theirs=("mask_token",), shape="1 1 w -> w"))
        names = ("image_decoder_obs_pred_projector", "image_decoder", "image_decoder_norm", "image_decoder_pred")
        found += decoder_names(size.video, *names)
    return tuple(found)


def seer_trunk_names(size: ForesightSize) -> list[Renamed]:
    """What is observed, and the tower."""
    found = [
        *linear("codecs.text.enter", "text_projector"),
        *linear("codecs.state.arm", "arm_state_encoder"),
        *linear("codecs.state.gripper", "gripper_state_encoder"),
        *linear("codecs.state.enter", "state_projector"),
        *resampler_names(size.image.resampler),
        Renamed(
            ours="towers.policy.frame.steps",
            theirs=("transformer_backbone_position_embedding",),
            shape="1 t 1 w -> t w",
        ),
        *linear("towers.policy.frame.norm_in", "embedding_layer_norm"),
        *gpt_names(size.tower, "transformer_backbone"),
    ]
    for number, camera in enumerate(SEER_CAMERAS):
        found += linear(f"codecs.image.patches.{number}", f"image_{camera}_projector")
        found += linear(f"codecs.image.classes.{number}", f"cls_token_{camera}_projector")
    return found


KNOWLEDGE = {
    "video": ("obs_tokens", "mask_token", "image_decoder", "image_decoder"),
    "depth": ("depth_tokens", "depth_mask_token", "depth_decoder", "depth_decoder"),
    "semantics": ("dino_feat_tokens", "dino_mask_token", "dino_feat_decoder", "dino_decoder"),
    "regions": ("sam_feat_tokens", "sam_mask_token", "sam_feat_decoder", "sam_decoder"),
}
"""What DreamVLA foresees: its queries, its mask, the blocks of its decoder, and what the rest of that begins with."""


def dreamvla_names(size: DreamVlaSize) -> tuple[Renamed, ...]:
    """DreamVLA's trained weights, without the head's condition of nothing (``z_embedder.uncondition``)."""
    net, frame = "action_model.net", "towers.head.frame"
    found = [
        *seer_trunk_names(size.observed),
        Renamed(ours="codecs.cognition.queries", theirs=("action_pred_token",), shape="1 1 n w -> n w"),
        Renamed(ours=f"{frame}.places", theirs=(f"{net}.positional_embedding",)),
        *linear(f"{frame}.level_in", f"{net}.t_embedder.mlp.0"),
        *linear(f"{frame}.level_out", f"{net}.t_embedder.mlp.2"),
        *linear(f"{frame}.read", f"{net}.z_embedder.linear"),
        *linear("codecs.action.enter", f"{net}.x_embedder.linear"),
        *linear("codecs.action.leave", f"{net}.final_layer.linear"),
    ]
    for part in size.knowledge:
        queries, mask, blocks, first = KNOWLEDGE[part.name]
        found.append(Renamed(ours=f"codecs.{part.name}.queries", theirs=(queries,), shape="1 1 n w -> n w"))
        found.append(Renamed(ours=f"codecs.{part.name}.decoder.mask", theirs=(mask,), shape="1 1 w -> w"))
        names = (f"{first}_obs_pred_projector", blocks, f"{first}_norm", f"{first}_pred")
        found += decoder_names(part.codec, *names, stream=part.name)
    maps = {"qkv": "attn.qkv", "out": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}
    for layer in range(size.head.depth):
        for ours, theirs in maps.items():
            found += linear(f"towers.head.layers.{layer}.{ours}", f"{net}.blocks.{layer}.{theirs}")
    return tuple(found)


def gpt_names(tower: Gpt, theirs: str) -> list[Renamed]:
    """GPT-2's blocks, whose maps are stored the other way round (transformers' ``Conv1D``)."""
    found = [*linear("towers.policy.frame.norm", f"{theirs}.ln_f")]
    maps = {"qkv": "attn.c_attn", "out": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    for layer in range(tower.depth):
        here, there = f"towers.policy.layers.{layer}", f"{theirs}.h.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.ln_1") + linear(f"{here}.norm_mlp", f"{there}.ln_2")
        for ours, name in maps.items():
            found.append(Renamed(ours=f"{here}.{ours}.weight", theirs=(f"{there}.{name}.weight",), shape="i o -> o i"))
            found.append(Renamed(ours=f"{here}.{ours}.bias", theirs=(f"{there}.{name}.bias",)))
    return found


def resampler_names(spec: Resampler) -> list[Renamed]:
    """Flamingo's resampler as flamingo-pytorch and OpenFlamingo name it."""
    ours, theirs = "codecs.image.resampler", "perceiver_resampler"
    found = [Renamed(ours=f"{ours}.latents", theirs=(f"{theirs}.latents",)), *linear(f"{ours}.norm", f"{theirs}.norm")]
    if spec.marked:
        found.append(Renamed(ours=f"{ours}.mark", theirs=(f"{theirs}.media_pos_emb",), shape="1 1 w -> w"))
    for layer in range(spec.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.layers.{layer}"
        found += linear(f"{here}.norm_features", f"{there}.0.norm_media")
        found += linear(f"{here}.norm_latents", f"{there}.0.norm_latents") + linear(f"{here}.norm_mlp", f"{there}.1.0")
        maps = {"q": "0.to_q", "kv": "0.to_kv", "out": "0.to_out", "up": "1.1", "down": "1.3"}
        found += [weight_of(f"{here}.{name}", f"{there}.{part}") for name, part in maps.items()]
    return found


def decoder_names(
    spec: FuturePatches, enter: str, blocks: str, norm: str, leave: str, *, stream: str = "video"
) -> list[Renamed]:
    """The decoder over masks, with timm's blocks; its fixed places are no weights."""
    ours = f"codecs.{stream}.decoder"
    found = [*linear(f"{ours}.enter", enter), *linear(f"{ours}.norm", norm), *linear(f"{ours}.leave", leave)]
    for layer in range(spec.depth):
        here, there = f"{ours}.layers.{layer}", f"{blocks}.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.norm1") + linear(f"{here}.norm_mlp", f"{there}.norm2")
        found += linear(f"{here}.qkv", f"{there}.attn.qkv") + linear(f"{here}.out", f"{there}.attn.proj")
        found += linear(f"{here}.up", f"{there}.mlp.fc1") + linear(f"{here}.down", f"{there}.mlp.fc2")
    return found
