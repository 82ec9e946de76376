"""The action head of GR00T N1 (NVIDIA 2025, arXiv 2503.14734; N1.5, N1.7) as recorded from LeRobot's port, Apache-2.0.

A case holds one training step at given time and noise, and sampling from given noise; recorded states stand for the
vision-language model. Published time runs from noise (0) to the data (1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import GrootEnds
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import corrupt, level_from_data_forward, velocity
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import embedded, hearing, joint_of, load_published
from crossroads.recipes.groot_n1 import groot_n1
from crossroads.recipes.groot_names import groot_names
from crossroads.recipes.groot_sizes import N15, N17, GrootSize
from crossroads.towers.groot import GrootN1Head, bucket_of
from crossroads.towers.group import GroupState
from crossroads.towers.plain import Adapter

FORMS = ("groot_n15", "groot_n17")
ONE_FORM = {"interleave_self_attention": True, "norm_type": "ada_norm", "positional_embeddings": None}
SEQUENCE = ("state", "future", "action")
"""The published order of the head's tokens."""
SMALL = {"groot_n15": 0.0, "groot_n17": 1e-6}
"""What the published loss adds to the number of entries that count."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights, and what the adapter makes of the backbone's states."""

    case: GoldenCase
    size: GrootSize
    net: StreamNet
    read: Mapping[str, GroupState]
    adapted: Mapping[str, Tensor]

    @property
    def sequence(self) -> tuple[str, ...]:
        return tuple(name for name in SEQUENCE if name != "future" or self.size.future)

    def latents(self, actions: Tensor) -> dict[str, Latent]:
        """What the head is fed."""
        given, num = self.case.inputs, self.size.future.num if self.size.future else 0
        found = {"state": given["state"], "future": torch.zeros(len(actions), num, 0), "action": actions}
        return {name: all_valid(found[name]) for name in self.sequence}

    def run(self, actions: Tensor, time: Float[Tensor, " b"]) -> dict[str, GroupState]:
        """One pass of the head."""
        latents, level = self.latents(actions), level_from_data_forward(time.double())
        return self.net(embedded(self.net, latents, {"action": level[:, None]}, latents), self.read)

    def answer(self, actions: Tensor, time: Float[Tensor, " b"]) -> Float[Tensor, "b n a"]:
        """The published velocity, towards the data."""
        return -self.net.codec("action").read(self.run(actions, time)["action"].hidden)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    outputs = {**prepared.adapted, **trained(prepared), **acted(prepared)}
    if "rtc_sample_actions" in case.outputs:
        outputs["rtc_sample_actions"] = bent(prepared)
    return Produced(outputs=outputs)


@torch.no_grad()
def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights.

    The published adapter lets tokens of padding be read, the head of N1.7 does not: so they are marked in between.
    Pictures and words are groups of all tokens each, of which the others are not valid.
    """
    size, given = size_of(case), case.inputs
    net = build_net(groot_n1(size).stage).eval()
    load_published(net, groot_names(size, ""), case.weights)
    net.address(tuple(f"bank_{number}" for number in given["embodiment_id"].tolist()))
    states = given["backbone_features"]
    image = given["image_mask"] if size.text_every else torch.ones_like(given["backbone_attention_mask"])
    latents = {"image": Latent(values=states, valid=image), "text": Latent(values=states, valid=~image)}
    with hearing(joint_of(net, "language").get_submodule("frames.language.norm")) as normed:
        found = net(embedded(net, latents, {}, latents), {})
    shown = given["backbone_attention_mask"] if size.text_every else torch.ones_like(image)
    read = {name: replace(state, valid=state.valid & shown) for name, state in found.items()}
    hidden = torch.where(image[..., None], found["image"].hidden, found["text"].hidden)
    adapted = {"vl_after_layernorm": normed[0][:, : states.shape[1]], "vl_features": hidden}
    return Prepared(case=case, size=size, net=net, read=read, adapted=adapted)


def size_of(case: GoldenCase) -> GrootSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    trunk, adapter = made["diffusion_model_cfg"], made["vl_self_attention_cfg"]
    trunk.demand(ONE_FORM)
    adapter.demand({"positional_embeddings": None})
    made.demand({"add_pos_embed": True, "state_history_length": 1, "use_alternate_vl_dit": True})
    if trunk["num_layers"] % 2:
        raise InputError(
            where=f"{trunk.where}.num_layers",
            expected="an even number: layers take turns",
            got=str(trunk["num_layers"]),
            do="crossroads has no other form of this network.",
        )
    published = N17 if case.system == "groot_n17" else N15
    hidden, buckets = made["hidden_size"], made["num_timestep_buckets"]
    num_actions, action_size = given["actions"].shape[1:]
    width, num_features = made["backbone_embedding_dim"], given["backbone_features"].shape[1]
    banks = tuple(f"bank_{number}" for number in range(made["max_num_embodiments"]))
    features = TextFeatures(source="recorded", width=width, max_tokens=num_features)
    return replace(
        published,
        image=features,
        text=features,
        language=Adapter(
            width=width,
            mlp=case.weights["vl_self_attention.transformer_blocks.0.ff.net.2.weight"].shape[1],
            depth=adapter["num_layers"],
            heads=adapter["num_attention_heads"],
        ),
        state=replace(published.state, num_state=given["state"].shape[2], hidden=(hidden,), robots=banks),
        future=LearnedTokens(num=made["num_target_vision_tokens"]) if published.future else None,
        action=replace(
            published.action,
            num_actions=num_actions,
            action_size=action_size,
            hidden_out=(hidden,),
            robots=banks,
            head=GrootEnds(num_places=made["max_seq_len"], widened=trunk["output_dim"], buckets=buckets),
        ),
        head=GrootN1Head(
            heads=trunk["num_attention_heads"],
            head_dim=trunk["attention_head_dim"],
            mlp=case.weights["model.transformer_blocks.0.ff.net.2.weight"].shape[1],
            depth=trunk["num_layers"] // 2,
            context_width=width,
            buckets=buckets,
        ),
        text_every=made["attend_text_every_n_blocks"] if published.text_every else 0,
        denoising_steps=made["num_inference_timesteps"],
    )


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step."""
    net, given = prepared.net, prepared.case.inputs
    level = level_from_data_forward(given["time"])
    noisy = corrupt(given["actions"], given["noise"], level[:, None, None])
    first = joint_of(net, "expert").layers
    halves = [layer.get_submodule("blocks.expert.read") for layer in first]
    codec, embedder = net.get_submodule("codecs.action"), joint_of(net, "expert").get_submodule("frames.expert")
    with ExitStack() as stack:
        read = [stack.enter_context(hearing(half)) for half in halves]
        whole = [stack.enter_context(hearing(layer)) for layer in first]
        told = stack.enter_context(hearing(embedder.get_submodule("level_out")))
        entered = stack.enter_context(hearing(codec.get_submodule("told_out")))
        state = stack.enter_context(hearing(net.get_submodule("codecs.state.enter")))
        states = prepared.run(noisy, given["time"])
    answer = -net.codec("action").read(states["action"].hidden)
    mask = given["action_mask"]
    error = mask * (answer + velocity(given["actions"], given["noise"])) ** 2
    num = {name: latent.values.shape[1] for name, latent in prepared.latents(noisy).items()}

    def in_sequence(x: Tensor) -> Tensor:
        """Our towers hold their groups in the order of their names."""
        parts = dict(zip(sorted(num), x.split([num[name] for name in sorted(num)], dim=1), strict=True))
        return torch.cat([parts[name] for name in prepared.sequence], dim=1)

    widened = [codec.get_submodule("widen")(states[name].hidden) for name in prepared.sequence]
    blocks = [x for pair in zip(read, whole, strict=True) for x in (pair[0][0], pair[1][0][0]["expert"])]
    return {
        "train_loss": error.sum() / (mask.sum() + SMALL[prepared.case.system]),
        "train_velocity": answer,
        "state_features": state[0],
        "action_features_before_position": entered[0],
        "time_embedding": told[0][:, 0],
        "time_bucket": bucket_of(given["time"], prepared.size.head.buckets).long(),
        "dit_output": torch.cat(widened, dim=1),
        **{f"block_{number}": in_sequence(x) for number, x in enumerate(blocks)},
    }


def times(prepared: Prepared) -> list[Float[Tensor, " b"]]:
    """The middle of the bucket that published code tells at each step, which it cuts from a float."""
    steps, buckets = prepared.size.denoising_steps, prepared.size.head.buckets
    batch = len(prepared.case.inputs["state"])
    told = [(int(step / float(steps) * buckets) + 0.5) / buckets for step in range(steps)]
    return [torch.full((batch,), time, dtype=torch.float64) for time in told]


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Acting from the recorded noise, in equal steps."""
    actions, found = prepared.case.inputs["sample_noise"], []
    for time in times(prepared):
        found.append(prepared.answer(actions, time))
        actions = actions + found[-1] / prepared.size.denoising_steps
    return {"sample_actions": actions, "sample_velocities": torch.stack(found)}


@torch.no_grad()
def bent(prepared: Prepared) -> Tensor:
    """Acting while a chunk before it is still carried out: the overlap starts as the end of that chunk and moves the
    less the earlier it is. The recording says how much in words."""
    given, said = prepared.case.inputs, " ".join(prepared.case.meta["notes"])
    overlap, frozen, rate = (float(_said(name, said)) for name in ("overlap_steps", "frozen_steps", "ramp_rate"))
    actions, num = given["sample_noise"].clone(), int(overlap)
    actions[:, :num] = given["previous_actions"][:, -num:]
    ramp = torch.linspace(0, 1, num - int(frozen) + 2)
    ramp = (1 - torch.exp(-rate * ramp)) / (1 - math.exp(-rate))
    strength = torch.ones(actions.shape[1])
    strength[: int(frozen)], strength[int(frozen) : num] = 0.0, ramp[1:-1]
    for time in times(prepared):
        actions = actions + strength[:, None] * prepared.answer(actions, time) / prepared.size.denoising_steps
    return actions


def _said(name: str, words: str) -> str:
    found = re.search(rf"rtc_{name}=([\d.]+\d|\d+)", words)
    if found is None:
        raise InputError(
            where="meta.json, notes", expected=f"rtc_{name}=NUMBER", got="no such note", do="Record the case again."
        )
    return found.group(1)
