"""SmolVLA as recorded from LeRobot (Shukor et al. 2025, arXiv 2506.01844; Apache-2.0).

A case holds one training step at a given level and noise, the prefix cache, and the denoising steps from given noise,
as that of pi0 does, whose record of a step and of acting is used.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from einops import rearrange, repeat
from jaxtyping import Int
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.pixels import ShuffledPatches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.errors import InputError
from crossroads.noise import corrupt
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.pi0 import Prepared, masks, sampled, stepped
from crossroads.parity.recorded import load_published
from crossroads.recipes.smolvla import PUBLISHED, SmolVlaSize, smolvla
from crossroads.recipes.smolvla_names import smolvla_names
from crossroads.towers.llama import Llama, SmolExpert

PREFIX, SUFFIX = ("image", "text", "state"), ("action",)
UNUSED = frozenset({"vlm_with_expert.vlm.lm_head.weight"})
PLACES = "vlm_with_expert.vlm.model.vision_model.embeddings.position_embedding.weight"
PERIODS = {"min_period": 0.004, "max_period": 4.0}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records. Padding is read by nobody: its keys, values and positions differ freely."""
    prepared = prepare(case)
    pad = prepared.pad_mask
    outputs = {**stepped(prepared), **sampled(prepared, prepared.stage.schedule), **masks(prepared), **cached(prepared)}
    own = pad[:, : outputs["prefix_embs"].shape[1]]
    kept = {name: rearrange(own, "b n -> b n 1 1") for name in outputs if name.startswith(("prefix_key", "prefix_val"))}
    return Produced(outputs=outputs, counts={**kept, "prefix_embs": own[..., None], "position_ids": pad})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights and the recorded inputs."""
    size, given = size_of(case), case.inputs
    stage = smolvla(size).stage
    net = build_net(stage).eval()
    weights = {**case.weights, PLACES: case.weights[PLACES][recorded_places(*size.image.patches_hw)]}
    load_published(net, smolvla_names(size, ""), weights, unused=UNUSED)
    cameras = range(len(size.image.cameras))
    seen = [repeat(given[f"image_mask_{i}"], "b -> b n", n=size.image.tokens_per_camera) for i in cameras]
    pixels = torch.stack([rearrange(given[f"image_{i}"], "b c h w -> b h w c") for i in cameras], dim=1)
    latents = {
        "image": Latent(values=(pixels + 1) * 127.5, valid=torch.cat(seen, dim=1).bool()),
        "text": Latent(values=given["tokens"], valid=given["token_mask"].bool()),
        "state": all_valid(given["state"][:, None]),
        "action": all_valid(corrupt(given["actions"], given["noise"], given["time"][:, None, None])),
    }
    return Prepared(
        case=case,
        size=size,
        stage=stage,
        net=net,
        latents=latents,
        level=given["time"][:, None],
        prefix=PREFIX,
        suffix=SUFFIX,
    )


def recorded_places(rows: int, columns: int) -> Int[Tensor, " n"]:
    """The row of the table of places that each patch had when the case was recorded, with transformers 4.57: patches of
    a whole picture fall one row and one column short of their own, because of a factor just below 1."""
    found = []
    for num in (rows, columns):
        boundaries = torch.arange(1 / num, 1.0, 1 / num)
        found.append(torch.bucketize(torch.arange(num) / num * (1 - 1e-6), boundaries, right=True))
    return (found[0][:, None] * columns + found[1]).flatten()


def size_of(case: GoldenCase) -> SmolVlaSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    text, vision = made["text_config"], made["vision_config"]
    vision.demand({"layer_norm_eps": 1e-6, "hidden_act": "gelu_pytorch_tanh"})
    made.demand({**PERIODS, "prefix_length": -1, "add_image_special_tokens": False})
    made.demand({"num_expert_layers": made["num_vlm_layers"]})
    num_cameras = sum(name.startswith("image_mask") for name in given)
    assert isinstance(PUBLISHED.text.vocabulary, PretrainedVocabulary)
    geometry = {
        "depth": made["num_vlm_layers"],
        "heads": text["num_attention_heads"],
        "kv_heads": text["num_key_value_heads"],
        "head_dim": text["head_dim"],
        "eps": text["rms_norm_eps"],
        "theta": float(text["rope_max_wavelength"]),
    }
    return replace(
        PUBLISHED,
        image=ShuffledPatches(
            cameras=tuple(f"camera_{index}" for index in range(num_cameras)),
            image_hw=(vision["image_size"], vision["image_size"]),
            patch=vision["patch_size"],
            depth=vision["num_hidden_layers"],
            vision_width=vision["hidden_size"],
            vision_mlp=vision["intermediate_size"],
            heads=vision["num_attention_heads"],
            shuffle=made["connector_scale_factor"],
        ),
        text=replace(
            PUBLISHED.text,
            vocabulary=replace(PUBLISHED.text.vocabulary, size=text["vocab_size"]),
            max_tokens=given["tokens"].shape[1],
        ),
        state=StateToken(num_state=made["max_state_dim"]),
        action=ActionTokens(
            num_actions=made["chunk_size"], action_size=made["max_action_dim"], control_hz=30.0, level_in_codec=True
        ),
        language=Llama(width=text["hidden_size"], mlp=text["intermediate_size"], **geometry),
        expert=SmolExpert(
            width=made["expert_hidden_size"],
            mlp=made["expert_intermediate_size"],
            joint_every=_joint_every(made),
            **geometry,
        ),
        denoising_steps=made["num_steps"],
    )


def _joint_every(made: Named[Any]) -> int:
    """Of a case's layers every so many-th is joint; in the mode ``self_attn`` all are."""
    every = made["self_attn_every_n_layers"] if "cross" in made["attention_mode"] else 1
    if every < 1:
        raise InputError(
            where=f"{made.where}.self_attn_every_n_layers",
            expected="1 or more",
            got=str(every),
            do="crossroads has no form of this network without joint layers.",
        )
    return every


@torch.no_grad()
def cached(prepared: Prepared) -> dict[str, Tensor]:
    """The prefix run once, its keys and values, and the suffix that reads them."""
    net, inputs = prepared.net, prepared.inputs((*PREFIX, *SUFFIX))
    prefix = net({name: inputs[name] for name in PREFIX}, {})
    suffix = net({name: inputs[name] for name in SUFFIX}, prefix)
    found = {"cached_velocity": net.codec("action").read(suffix["action"].hidden)}
    for layer in range(prepared.size.language.depth):
        found[f"prefix_key_layer{layer}"] = torch.cat([prefix[name].keys[layer] for name in PREFIX], dim=1)
        found[f"prefix_value_layer{layer}"] = torch.cat([prefix[name].values[layer] for name in PREFIX], dim=1)
    return found
