"""Names of published weights against ours, usable both ways: import a published checkpoint, export one of ours.

Ours are the public names of ``StreamNet.weight_names`` (``towers.video.layers.0.q.weight``). Sources: openpi's PyTorch
port (Apache-2.0), Fast-WAM (MIT), diffusers' ``WanTransformer3DModel`` (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

from crossroads.errors import InputError, nearest
from crossroads.net import StreamNet
from crossroads.recipes.cosmos_policy_sizes import CosmosPolicySize
from crossroads.recipes.dreamzero_sizes import DreamZeroSize
from crossroads.recipes.fast_wam_sizes import FastWamSize
from crossroads.recipes.gigaworld import GigaWorldSize
from crossroads.recipes.pi0 import Pi0Size
from crossroads.recipes.pi0_fast import Pi0FastSize
from crossroads.recipes.pi05_sizes import Pi05Size


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """One of our weights and the published tensors that are stacked in it (along the first axis).

    ``shape``: how a published tensor is reshaped into ours ("" for not at all), an einops pattern; ``axes``: the
    sizes that the way back needs. ``negated``: ours is theirs with the other sign (the last map of a network whose
    published velocity points to the data). ``row``: ours is this row of a published table, which has an entry of
    its own before this one.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: str = ""
    axes: tuple[tuple[str, int], ...] = ()
    negated: bool = False
    row: int | None = None


def imported(renamed: Iterable[Renamed], published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors under our names and in our shapes."""
    weights = {}
    for entry in renamed:
        for name in entry.theirs:
            if name not in published:
                raise InputError(where="published weights", expected=name, got="none", do=nearest(name, published))
        parts = [published[name] if entry.row is None else published[name][entry.row][None] for name in entry.theirs]
        axes = dict(entry.axes)
        stacked = torch.cat([rearrange(part, entry.shape, **axes) if entry.shape else part for part in parts])
        weights[entry.ours] = -stacked if entry.negated else stacked
    return weights


def exported(renamed: Iterable[Renamed], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under published names and in published shapes."""
    weights = {}
    for entry in renamed:
        before, _, after = entry.shape.partition("->")
        whole = -ours[entry.ours] if entry.negated else ours[entry.ours]
        for name, part in zip(entry.theirs, whole.chunk(len(entry.theirs)), strict=True):
            if entry.row is not None:
                weights[name][entry.row] = part[0]
                continue
            weights[name] = rearrange(part, f"{after} -> {before}", **dict(entry.axes)) if entry.shape else part.clone()
    return weights


def load_weights(net: StreamNet, weights: Mapping[str, Tensor]) -> None:
    """Put weights by public names into a network; every parameter must be there and fit, and nothing else may be."""
    places = net.weight_names({group.tower for group in net.layout.groups.values()})
    parameters = dict(net.named_parameters())
    wanted = {public for public, inside in places.items() if inside in parameters}
    if wanted != set(weights):
        raise InputError(
            where="weights of a network",
            expected=f"its {len(wanted)} tensors and no others",
            got=f"missing {sorted(wanted - set(weights))[:5]}, unknown {sorted(set(weights) - wanted)[:5]}",
            do="Build the recipe at the size of the weights.",
        )
    for public, tensor in weights.items():
        parameter = parameters[places[public]]
        if parameter.shape != tensor.shape:
            raise InputError(
                where=f"weight {public}",
                expected=f"shape {tuple(parameter.shape)}",
                got=str(tuple(tensor.shape)),
                do="Build the recipe at the size of the weights.",
            )
        with torch.no_grad():
            parameter.copy_(tensor)


def linear(ours: str, *theirs: str) -> tuple[Renamed, Renamed]:
    """Weight and bias of a linear map (or of several stacked in one)."""
    weight, bias = (tuple(f"{name}.{kind}" for name in theirs) for kind in ("weight", "bias"))
    return Renamed(ours=f"{ours}.weight", theirs=weight), Renamed(ours=f"{ours}.bias", theirs=bias)


def weight_of(ours: str, theirs: str) -> Renamed:
    """A weight without a bias."""
    return Renamed(ours=f"{ours}.weight", theirs=(f"{theirs}.weight",))


def pi0_names(size: Pi0Size) -> tuple[Renamed, ...]:
    """openpi's pi0 (``PI0Pytorch``). Left over: the two ``lm_head``, one tied, one unused."""
    return (
        *paligemma_names(size.image.depth, size.language.depth),
        *linear("codecs.state.enter", "state_proj"),
        *linear("codecs.action.enter", "action_in_proj"),
        *linear("codecs.action.leave", "action_out_proj"),
        *linear("codecs.action.told_in", "action_time_mlp_in"),
        *linear("codecs.action.told_out", "action_time_mlp_out"),
        *gemma_names("towers.expert", EXPERT, size.expert.depth),
    )


def pi05_names(size: Pi05Size) -> tuple[Renamed, ...]:
    """openpi's pi0.5 (``PI0Pytorch`` with ``pi05``); the subtask has no weights of its own."""
    return (
        *paligemma_names(size.image.depth, size.language.depth),
        *linear("codecs.action.enter", "action_in_proj"),
        *linear("codecs.action.leave", "action_out_proj"),
        *linear("towers.expert.frame.level_in", "time_mlp_in"),
        *linear("towers.expert.frame.level_out", "time_mlp_out"),
        *gemma_names("towers.expert", EXPERT, size.expert.depth, adaptive=True),
    )


def pi0_fast_names(size: Pi0FastSize) -> tuple[Renamed, ...]:
    """LeRobot's pi0-FAST (``PI0FastPytorch``): PaliGemma. Left over where it is tied: ``lm_head``."""
    scores = [] if size.text.tied else [weight_of("codecs.text.scores", "paligemma_with_expert.paligemma.lm_head")]
    return (*paligemma_names(size.image.depth, size.language.depth), *scores)


EXPERT = "paligemma_with_expert.gemma_expert.model"


def paligemma_names(vision_depth: int, language_depth: int) -> list[Renamed]:
    """The vision and language models under pi0, pi0.5 and pi0-FAST."""
    vlm = "paligemma_with_expert.paligemma.model"
    return [
        weight_of("codecs.text.table", f"{vlm}.language_model.embed_tokens"),
        *siglip_names("codecs.image", f"{vlm}.vision_tower.vision_model", vision_depth),
        *linear("codecs.image.project", f"{vlm}.multi_modal_projector.linear"),
        *gemma_names("towers.language", f"{vlm}.language_model", language_depth),
    ]


def siglip_names(ours: str, theirs: str, depth: int) -> list[Renamed]:
    """A SigLIP vision tower as transformers names it."""
    found = [
        *linear(f"{ours}.enter", f"{theirs}.embeddings.patch_embedding"),
        Renamed(ours=f"{ours}.position", theirs=(f"{theirs}.embeddings.position_embedding.weight",)),
        *linear(f"{ours}.norm", f"{theirs}.post_layernorm"),
    ]
    for layer in range(depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.encoder.layers.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.layer_norm1")
        found += linear(f"{here}.qkv", *(f"{there}.self_attn.{name}_proj" for name in "qkv"))
        found += linear(f"{here}.out", f"{there}.self_attn.out_proj")
        found += linear(f"{here}.norm_mlp", f"{there}.layer_norm2")
        found += linear(f"{here}.up", f"{there}.mlp.fc1") + linear(f"{here}.down", f"{there}.mlp.fc2")
    return found


GEMMA = {
    "norm_attention": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "out": "self_attn.o_proj",
    "norm_mlp": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def gemma_names(ours: str, theirs: str, depth: int, *, adaptive: bool = False) -> list[Renamed]:
    """A Gemma decoder as transformers names it; openpi's ``adaptive`` norms are linear maps of the level."""

    def one(here: str, there: str) -> list[Renamed]:
        if adaptive and "norm" in here.rpartition(".")[2]:
            return list(linear(f"{ours}.{here}.told", f"{theirs}.{there}.dense"))
        return [weight_of(f"{ours}.{here}", f"{theirs}.{there}")]

    found = one("frame.norm", "norm")
    for layer in range(depth):
        for part, name in GEMMA.items():
            found += one(f"layers.{layer}.{part}", f"layers.{layer}.{name}")
    return found


WAN_LINEAR = ("q", "k", "v", "out", "cross_q", "cross_k", "cross_v", "cross_out", "norm_cross", "up", "down")
WAN_NORM = ("norm_q", "norm_k", "norm_cross_q", "norm_cross_k")
WAN_ORIGINAL = {
    **{"q": "self_attn.q", "k": "self_attn.k", "v": "self_attn.v", "out": "self_attn.o"},
    **{"norm_q": "self_attn.norm_q", "norm_k": "self_attn.norm_k", "norm_cross": "norm3"},
    **{"cross_q": "cross_attn.q", "cross_k": "cross_attn.k", "cross_v": "cross_attn.v", "cross_out": "cross_attn.o"},
    **{"norm_cross_q": "cross_attn.norm_q", "norm_cross_k": "cross_attn.norm_k", "up": "ffn.0", "down": "ffn.2"},
    **{"table": "modulation", "level_in": "time_embedding.0", "level_out": "time_embedding.2"},
    **{"level_project": "time_projection.1", "context_in": "text_embedding.0", "context_out": "text_embedding.2"},
    **{"head_table": "head.modulation", "leave": "head.head"},
}
WAN_DIFFUSERS = {
    **{"q": "attn1.to_q", "k": "attn1.to_k", "v": "attn1.to_v", "out": "attn1.to_out.0"},
    **{"norm_q": "attn1.norm_q", "norm_k": "attn1.norm_k", "norm_cross": "norm2"},
    **{"cross_q": "attn2.to_q", "cross_k": "attn2.to_k", "cross_v": "attn2.to_v", "cross_out": "attn2.to_out.0"},
    **{"norm_cross_q": "attn2.norm_q", "norm_cross_k": "attn2.norm_k", "up": "ffn.net.0.proj", "down": "ffn.net.2"},
    **{"table": "scale_shift_table", "level_in": "condition_embedder.time_embedder.linear_1"},
    **{"level_out": "condition_embedder.time_embedder.linear_2", "level_project": "condition_embedder.time_proj"},
    **{"context_in": "condition_embedder.text_embedder.linear_1"},
    **{"context_out": "condition_embedder.text_embedder.linear_2"},
    **{"head_table": "scale_shift_table", "leave": "proj_out"},
}


def wan_names(
    ours: str,
    prefix: str,
    depth: int,
    dialect: Literal["original", "diffusers"],
    *,
    expert: str = "",
    frame_prefix: str = "",
) -> list[Renamed]:
    """A Wan tower without its ends (patches in, patches out, modulated head).

    ``expert``: what follows the number of a block where blocks hold several experts; ``frame_prefix``: what stands
    before the names of that expert's level and text embedders.
    """
    theirs = WAN_ORIGINAL if dialect == "original" else WAN_DIFFUSERS
    found: list[Renamed] = []
    for part in ("level_in", "level_out", "level_project", "context_in", "context_out"):
        found += linear(f"{ours}.frame.{part}", f"{prefix}{frame_prefix}{theirs[part]}")
    for layer in range(depth):
        here, there = f"{ours}.layers.{layer}", f"{prefix}blocks.{layer}{expert}"
        for part in WAN_LINEAR:
            found += linear(f"{here}.{part}", f"{there}.{theirs[part]}")
        found += [weight_of(f"{here}.{part}", f"{there}.{theirs[part]}") for part in WAN_NORM]
        found.append(Renamed(ours=f"{here}.table", theirs=(f"{there}.{theirs['table']}",), shape="1 n w -> n w"))
    return found


WAN_IMAGE = {  # ours: (original, diffusers)
    **{"image_norm_in": ("img_emb.proj.0", "condition_embedder.image_embedder.norm1")},
    **{"image_in": ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj")},
    **{"image_out": ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2")},
    **{"image_norm_out": ("img_emb.proj.4", "condition_embedder.image_embedder.norm2")},
}
WAN_IMAGE_LAYER = {
    **{"image_k": ("cross_attn.k_img", "attn2.add_k_proj"), "image_v": ("cross_attn.v_img", "attn2.add_v_proj")},
    **{"norm_image_k": ("cross_attn.norm_k_img", "attn2.norm_added_k")},
}


def wan_image_names(
    ours: str, prefix: str, depth: int, dialect: Literal["original", "diffusers"] = "diffusers"
) -> list[Renamed]:
    """What Wan 2.1 I2V adds: CLIP's projection, and keys and values of image tokens."""
    which = 0 if dialect == "original" else 1
    found: list[Renamed] = []
    for part, names in WAN_IMAGE.items():
        found += linear(f"{ours}.frame.{part}", f"{prefix}{names[which]}")
    for layer in range(depth):
        here, there = f"{ours}.layers.{layer}", f"{prefix}blocks.{layer}"
        for part in ("image_k", "image_v"):
            found += linear(f"{here}.{part}", f"{there}.{WAN_IMAGE_LAYER[part][which]}")
        found.append(weight_of(f"{here}.norm_image_k", f"{there}.{WAN_IMAGE_LAYER['norm_image_k'][which]}"))
    return found


def wan_ends(
    codec: str, tower: str, prefix: str, patch: int, dialect: Literal["original", "diffusers"]
) -> list[Renamed]:
    """Patches in, patches out and the modulated head of a Wan video model."""
    theirs = WAN_ORIGINAL if dialect == "original" else WAN_DIFFUSERS
    enter, bias = linear(f"{codec}.enter", f"{prefix}patch_embedding")
    sizes = (("p", patch), ("q", patch))
    return [
        Renamed(ours=enter.ours, theirs=enter.theirs, shape="w c 1 p q -> w (p q c)", axes=sizes),
        bias,
        *linear(f"{codec}.leave", f"{prefix}{theirs['leave']}"),
        Renamed(ours=f"{tower}.frame.head_table", theirs=(f"{prefix}{theirs['head_table']}",), shape="1 n w -> n w"),
    ]


def fast_wam_names(size: FastWamSize) -> tuple[Renamed, ...]:
    """Fast-WAM's video expert, action expert and state projection; the three forms share them."""
    return (
        *wan_ends("codecs.video", "towers.video", "video_expert.", size.video.patch, "original"),
        *wan_names("towers.video", "video_expert.", size.video_tower.depth, "original"),
        *linear("codecs.action.enter", "action_expert.action_encoder"),
        *linear("codecs.action.leave", "action_expert.head"),
        *wan_names("towers.expert", "action_expert.", size.expert.depth, "original"),
        *linear("codecs.state.enter", "proprio_encoder"),
    )


COSMOS = {  # ours: (original, diffusers)
    **{"q": ("self_attn.q_proj", "attn1.to_q"), "k": ("self_attn.k_proj", "attn1.to_k")},
    **{"v": ("self_attn.v_proj", "attn1.to_v"), "out": ("self_attn.output_proj", "attn1.to_out.0")},
    **{"norm_q": ("self_attn.q_norm", "attn1.norm_q"), "norm_k": ("self_attn.k_norm", "attn1.norm_k")},
    **{"narrow": ("adaln_modulation_self_attn.1", "norm1.linear_1")},
    **{"wide": ("adaln_modulation_self_attn.2", "norm1.linear_2")},
    **{"cross_q": ("cross_attn.q_proj", "attn2.to_q"), "cross_k": ("cross_attn.k_proj", "attn2.to_k")},
    **{"cross_v": ("cross_attn.v_proj", "attn2.to_v"), "cross_out": ("cross_attn.output_proj", "attn2.to_out.0")},
    **{"norm_cross_q": ("cross_attn.q_norm", "attn2.norm_q"), "norm_cross_k": ("cross_attn.k_norm", "attn2.norm_k")},
    **{"cross_narrow": ("adaln_modulation_cross_attn.1", "norm2.linear_1")},
    **{"cross_wide": ("adaln_modulation_cross_attn.2", "norm2.linear_2")},
    **{"up": ("mlp.layer1", "ff.net.0.proj"), "down": ("mlp.layer2", "ff.net.2")},
    **{"mlp_narrow": ("adaln_modulation_mlp.1", "norm3.linear_1")},
    **{"mlp_wide": ("adaln_modulation_mlp.2", "norm3.linear_2")},
}
COSMOS_FRAME = {
    "level_in": ("t_embedder.1.linear_1", "time_embed.t_embedder.linear_1"),
    "level_out": ("t_embedder.1.linear_2", "time_embed.t_embedder.linear_2"),
    "level_norm": ("t_embedding_norm", "time_embed.norm"),
    "head_narrow": ("final_layer.adaln_modulation.1", "norm_out.linear_1"),
    "head_wide": ("final_layer.adaln_modulation.2", "norm_out.linear_2"),
}
COSMOS_ENDS = {"enter": ("x_embedder.proj.1", "patch_embed.proj"), "leave": ("final_layer.linear", "proj_out")}


def cosmos_names(
    codec: str, tower: str, prefix: str, *, depth: int, patch: int, dialect: Literal["original", "diffusers"]
) -> list[Renamed]:
    """A Cosmos-Predict2 video model with its ends; a patch enters as (channel, row, column), leaves channels last."""
    which = 0 if dialect == "original" else 1
    blocks = f"{prefix}{'blocks' if dialect == 'original' else 'transformer_blocks'}"
    enter, leave = (f"{prefix}{COSMOS_ENDS[end][which]}.weight" for end in ("enter", "leave"))
    sizes = (("p", patch), ("q", patch))
    found = [
        Renamed(ours=f"{codec}.enter.weight", theirs=(enter,), shape="w (c p q) -> w (p q c)", axes=sizes),
        Renamed(ours=f"{codec}.leave.weight", theirs=(leave,)),
    ]
    found += [weight_of(f"{tower}.frame.{part}", f"{prefix}{COSMOS_FRAME[part][which]}") for part in COSMOS_FRAME]
    for layer in range(depth):
        found += [
            weight_of(f"{tower}.layers.{layer}.{part}", f"{blocks}.{layer}.{COSMOS[part][which]}") for part in COSMOS
        ]
    return found


def cosmos_policy_names(size: CosmosPolicySize) -> tuple[Renamed, ...]:
    """Cosmos Policy: the video model as it was, under the names of NVIDIA's network (``MinimalV1LVGDiT``)."""
    named = cosmos_names(
        "codecs.video", "towers.video", "", depth=size.tower.depth, patch=size.video.patch, dialect="original"
    )
    return tuple(named)


def gigaworld_names(size: GigaWorldSize) -> tuple[Renamed, ...]:
    """GigaWorld-Policy 0.5 (``CasualWorldActionTransformer_MoT``); its end networks have three layers."""
    depth = size.expert.depth
    found = [
        *wan_ends("codecs.video", "towers.video", "", size.video.patch, "diffusers"),
        *wan_names("towers.video", "", depth, "diffusers", expert=".visual_expert"),
        *wan_names("towers.expert", "", depth, "diffusers", expert=".action_expert", frame_prefix="action_"),
        Renamed(ours="towers.expert.frame.head_table", theirs=("action_scale_shift_table",), shape="1 n w -> n w"),
    ]
    ends = {"codecs.state.enter": "state_encoder", "codecs.action.enter": "action_encoder"}
    for ours, theirs in {**ends, "codecs.action.leave": "action_decoder"}.items():
        for layer, part in enumerate(("in_proj", "mid_proj", "out_proj")):
            found += linear(f"{ours}.layers.{layer}", f"{theirs}.{part}")
    return tuple(found)


def dreamzero_names(size: DreamZeroSize) -> tuple[Renamed, ...]:
    """DreamZero (``CausalWanModel``); its end networks are kept per robot, of which there is one, input size first."""
    depth = size.video_tower.depth
    found = [
        *wan_ends("codecs.video", "towers.video", "", size.video.patch, "original"),
        *wan_names("towers.video", "", depth, "original"),
        *(wan_image_names("towers.video", "", depth, "original") if size.image else ()),
    ]
    ends = {
        **{
            "codecs.state.enter.layers.0": "state_encoder.layer1",
            "codecs.state.enter.layers.1": "state_encoder.layer2",
        },
        **{"codecs.action.enter": "action_encoder.W1", "codecs.action.told_in": "action_encoder.W2"},
        **{"codecs.action.told_out": "action_encoder.W3"},
        **{"codecs.action.leave.layers.0": "action_decoder.layer1"},
        **{"codecs.action.leave.layers.1": "action_decoder.layer2"},
    }
    for ours, theirs in ends.items():
        found.append(Renamed(ours=f"{ours}.weight", theirs=(f"{theirs}.W",), shape="1 i o -> o i"))
        found.append(Renamed(ours=f"{ours}.bias", theirs=(f"{theirs}.b",), shape="1 o -> o"))
    return tuple(found)
