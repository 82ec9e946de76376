"""MolmoAct2 as recorded from LeRobot's port (Ai2 2026; Apache-2.0): language model without pictures, and expert.

A case holds the prefix with each layer's keys and values, the expert's answer to given noise at given times, and acting
from given noise. Published time runs from noise (0) to the data (1).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.text import TextTokens
from crossroads.net import StreamNet
from crossroads.noise import corrupt, level_from_data_forward
from crossroads.objectives import Flow
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import embedded, hearing, joint_of, load_published
from crossroads.recipes.molmoact2_names import molmoact2_names, separated
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads
from crossroads.towers.group import GroupState
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.qwen import Qwen

UNUSED = frozenset({"model.transformer.rotary_emb.inv_freq"})
WORDS, MORE_WORDS, SCORES = "model.transformer.wte.embedding", "model.transformer.wte.new_embedding", "lm_head.weight"
ONE_FORM = {"norm_after": False, "rope_scaling": None, "rope_scaling_layers": None, "hidden_act": "silu"}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights, and the language model run once."""

    case: GoldenCase
    net: StreamNet
    text: GroupState
    read: Mapping[str, GroupState]
    steps: int

    def answer(self, actions: Tensor, time: Float[Tensor, " b"]) -> Float[Tensor, "b n a"]:
        """The published velocity, towards the data."""
        latents = {"action": all_valid(actions)}
        inputs = embedded(self.net, latents, {"action": level_from_data_forward(time)[:, None]}, latents)
        return -self.net.codec("action").read(self.net(inputs, self.read)["action"].hidden)

    def masked(self, x: Tensor) -> Tensor:
        """Numbers of the robot's own; those that only pad an action are zeros, where the case says so."""
        pad = self.case.inputs.get("action_dim_is_pad")
        if pad is None or not self.case.meta["constructor"].get("mask_action_dim_padding", True):
            return x
        return x.masked_fill(pad.bool()[:, None], 0.0)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records. What stands at padding is read by nobody."""
    prepared = prepare(case)
    valid = case.inputs["attention_mask"].bool()
    text, scores = prepared.text, prepared.net.codec("text").read(prepared.text.hidden)
    outputs = {"logits": scores[..., : case.meta["constructor"]["text_config"]["vocab_size"]]}
    for layer, (keys, values) in enumerate(zip(text.keys, text.values, strict=True)):
        outputs[f"kv_key_layer{layer}"], outputs[f"kv_value_layer{layer}"] = keys.flatten(2), values.flatten(2)
    counts = dict.fromkeys(outputs, valid[..., None])
    outputs["encoder_attention_mask"] = prepared.read["text"].valid.to(torch.uint8)
    return Produced(outputs={**outputs, **trained(prepared), **acted(prepared)}, counts=counts)


@torch.no_grad()
def prepare(case: GoldenCase) -> Prepared:
    """Language model and expert at the case's size, with the published weights."""
    net = build_net(stage_of(case)).eval()
    language, expert = towers_of(case)
    weights = separated(whole_tables(case.weights), language)
    load_published(net, molmoact2_names(language, expert), weights, unused=UNUSED & set(weights))
    given = case.inputs
    latents = {"text": Latent(values=given["input_ids"], valid=given["attention_mask"].bool())}
    text = net(embedded(net, latents, {}, latents), {})["text"]
    read = {"text": replace(text, valid=read_by_expert(case))}
    return Prepared(case=case, net=net, text=text, read=read, steps=int(case.meta["constructor"]["steps"]))


def whole_tables(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The table of words and of the words that were added as one; added words have no scores (zeros)."""
    found = {name: weight for name, weight in weights.items() if name != MORE_WORDS}
    if MORE_WORDS in weights:
        found[WORDS] = torch.cat([weights[WORDS], weights[MORE_WORDS]])
        found[SCORES] = functional.pad(weights[SCORES], (0, 0, 0, len(weights[MORE_WORDS])))
    return found


def read_by_expert(case: GoldenCase) -> Bool[Tensor, "b n"]:
    """Which tokens the expert reads: where actions are written as well, none of those, and no end mark."""
    made, ids = case.meta["constructor"], case.inputs["input_ids"]
    valid = case.inputs["attention_mask"].bool()
    if made.get("action_mode", "both") != "both":
        return valid
    start, end = made.get("action_start_token_id"), made.get("action_end_token_id")
    if start is not None and end is not None:
        opened = (ids == start).long().cumsum(dim=1)
        closed = (ids == end).long().cumsum(dim=1) - (ids == end).long()
        valid = valid & ~(opened > closed)
    eos = made.get("eos_token_id", made["text_config"].get("eos_token_id"))
    return valid if eos is None else valid & (ids != eos)


def towers_of(case: GoldenCase) -> tuple[Qwen, MolmoExpert]:
    """Both towers with the numbers of a recorded case."""
    made = case.meta["constructor"]
    text, expert = made["text_config"], made["action_expert_config"]
    text.demand({**ONE_FORM, **({"qk_norm_type": "qwen3"} if text["use_qk_norm"] else {})})
    size, width = text["head_dim"], expert["hidden_size"]
    heads = text["num_key_value_heads"] or text["num_attention_heads"]
    language = Qwen(
        width=text["hidden_size"],
        mlp=text["intermediate_size"],
        depth=text["num_hidden_layers"],
        heads=text["num_attention_heads"],
        kv_heads=heads,
        head_dim=size,
        eps=text["layer_norm_eps"],
        theta=float(text["rope_theta"]),
        sections=(size // 2, 0, 0),
        biased=text["qkv_bias"],
        normed=text["use_qk_norm"],
    )
    multiple, inner = expert["ffn_multiple_of"], int(width * expert["mlp_ratio"])
    return language, MolmoExpert(
        width=width,
        mlp=-(-inner // multiple) * multiple if multiple > 0 else inner,
        depth=expert["num_layers"],
        heads=expert["num_heads"],
        context_width=text["hidden_size"],
        key_width=heads * size,
        waves=expert["timestep_embed_dim"],
        norm_context=expert["context_layer_norm"],
        norm_heads=expert["qk_norm"],
        rotary=expert["rope"],
        head_eps=expert["qk_norm_eps"],
    )


def stage_of(case: GoldenCase) -> Stage:
    """The recipe's two towers and ends, without pictures."""
    language, expert = towers_of(case)
    made, (num_actions, action_size) = case.meta["constructor"], case.inputs["actions"].shape[1:]
    size = made["text_config"]["vocab_size"] + (made["text_config"].get("additional_vocab_size") or 0)
    words = PretrainedVocabulary(source="recorded", size=size, start=None, end=0)
    tied = made["text_config"].get("tie_word_embeddings") and SCORES not in case.weights
    text = TextTokens(vocabulary=words, max_tokens=case.inputs["input_ids"].shape[1], tied=bool(tied))
    action = ActionTokens(num_actions=num_actions, action_size=action_size, control_hz=30.0)
    return Stage(
        name="policy",
        streams=(
            Stream(name="text", carries="text", codec=text, tower="language"),
            Stream(name="action", carries="action", codec=action, tower="expert", views=(NOISED,), objective=Flow()),
        ),
        edges=(
            Edge(dst="text", src="text", when="causal"),
            *reads("action", "text", via="cross"),
            Edge(dst="action", src="action", when=_order(made["action_expert_config"])),
        ),
        towers=(Tower(name="language", spec=language), Tower(name="expert", spec=expert)),
        schedule=(Denoise(streams=("action",), solver=Euler(steps=int(made["steps"]))),),
        sequence=("text",),
    )


def _order(made: Named[Any]) -> Any:
    return "causal" if made["causal_attn"] else "all"


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The expert's answer to given noise; what only pads an action is recorded as all else is."""
    net, given = prepared.net, prepared.case.inputs
    level = level_from_data_forward(given["time"])[:, None, None]
    noised = corrupt(given["actions"], given["noise"], level)
    joint = joint_of(net, "expert")
    with ExitStack() as stack:
        layers = [stack.enter_context(hearing(layer)) for layer in joint.layers]
        told = stack.enter_context(hearing(joint.get_submodule("frames.expert.level_out")))
        answer = prepared.answer(noised, given["time"])
    error = (answer - (given["actions"] - given["noise"])) ** 2
    return {
        "x_t": noised,
        "train_velocity": answer,
        "train_loss_mean": error.mean(),
        "time_conditioning": told[0][:, 0],
        **{f"block_{number}": heard[0][0]["expert"] for number, heard in enumerate(layers)},
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Acting from the recorded noise, in equal steps."""
    x, found = prepared.masked(prepared.case.inputs["sample_noise"]), []
    for step in range(prepared.steps):
        found.append(prepared.answer(x, torch.full((len(x),), step / prepared.steps)))
        x = prepared.masked(x + prepared.masked(found[-1]) / prepared.steps)
    return {"sample_actions": x, "sample_velocities_before_dim_mask": torch.stack(found)}
