"""The action head of DiT4DiT (and GR00T N1) as recorded from the official class, MIT.

A case holds one training step with its draws replaced by saved tensors (``train.*``) and one run of the head from saved
noise (``infer.*``); recorded features stand for the video model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import HeadEnds
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import corrupt, velocity
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, embedded, hearing, joint_of, load_published
from crossroads.recipes.dit4dit import head_edges, head_streams
from crossroads.recipes.dit4dit_names import head_names
from crossroads.recipes.dit4dit_sizes import PUBLISHED, Dit4DitSize
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Stage, Tower
from crossroads.streams import Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootHead, bucket_of

ONE_FORM = {"interleave_self_attention": True, "norm_type": "ada_norm", "positional_embeddings": None}
SEQUENCE = ("state", "action")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our head with its weights."""

    case: GoldenCase
    size: Dit4DitSize
    net: StreamNet

    def latents(self, actions: Tensor) -> dict[str, Latent]:
        """What the head is fed."""
        given = self.case.inputs
        return {
            "features": all_valid(given["vl_embs"]),
            "state": all_valid(given["state"]),
            "action": all_valid(actions),
        }


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size = size_of(case)
    net = build_net(stage_of(size, case.inputs["vl_embs"].shape[1])).eval()
    load_published(net, head_names(size), case.weights)
    prepared = Prepared(case=case, size=size, net=net)
    return Produced(outputs={**trained(prepared), **acted(prepared)})


def size_of(case: GoldenCase) -> Dit4DitSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    action, model = made["action_model"], made["size"]
    trunk = action["diffusion_model_cfg"]
    trunk.demand(ONE_FORM)
    action.demand({"add_pos_embed": True})
    if trunk["num_layers"] % 2:
        raise InputError(
            where=f"{trunk.where}.num_layers",
            expected="an even number: layers take turns",
            got=str(trunk["num_layers"]),
            do="crossroads has no other form of this network.",
        )
    heads, head_dim, hidden = model["num_attention_heads"], model["attention_head_dim"], action["hidden_size"]
    buckets = action["num_timestep_buckets"]
    num_actions, action_size = given["actions"].shape[1:]
    mlp = case.weights["model.transformer_blocks.0.ff.net.2.weight"].shape[1]
    return replace(
        PUBLISHED,
        state=replace(PUBLISHED.state, num_state=given["state"].shape[2], hidden=(hidden,)),
        action=replace(
            PUBLISHED.action,
            num_actions=num_actions,
            action_size=action_size,
            hidden_out=(hidden,),
            head=HeadEnds(num_places=action["max_seq_len"], widened=trunk["output_dim"], buckets=buckets),
        ),
        head=GrootHead(
            heads=heads,
            head_dim=head_dim,
            mlp=mlp,
            depth=trunk["num_layers"] // 2,
            context_width=trunk["cross_attention_dim"],
            buckets=buckets,
        ),
        denoising_steps=action["num_inference_timesteps"],
    )


def stage_of(size: Dit4DitSize, num_features: int) -> Stage:
    """The recipe's head on features that are given."""
    width = size.head.context_width
    features = TextFeatures(source="recorded", width=width, max_tokens=num_features)
    return Stage(
        name="head",
        streams=(Stream(name="features", carries="text", codec=features, tower="given"), *head_streams(size)),
        edges=(*reads("features", "features"), *head_edges("features", tap=None)),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="expert", spec=size.head)),
        schedule=(Denoise(streams=("action",), solver=Euler(steps=size.denoising_steps)),),
    )


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step; its level is the recorded draw over ``noise_s``, which may exceed 1 a little."""
    net, given, made = prepared.net, prepared.case.inputs, prepared.case.meta["constructor"]["action_model"]
    level = given["beta_sample"] / made["noise_s"]
    noisy = corrupt(given["actions"], given["noise"], level[:, None, None])
    latents = prepared.latents(noisy)
    inputs = embedded(net, latents, {"action": level[:, None]}, latents)
    first = joint_of(net, "expert").layers[0]
    with hearing(first.get_submodule("blocks.expert.read")) as read, hearing(first) as whole:
        states = net(inputs, {})
    codec = net.get_submodule("codecs.action")
    answer = net.codec("action").read(states["action"].hidden)
    mask = given["action_mask"]
    error = mask * (answer - velocity(given["actions"], given["noise"])) ** 2

    def in_sequence(x: Tensor) -> Tensor:
        """Our towers hold their groups in the order of their names."""
        num = inputs["action"].tokens.shape[1]
        return torch.cat([x[:, num:], x[:, :num]], dim=1)

    return {
        "train.loss": (error.sum() / mask.sum())[None],
        "train.t_continuous": level,
        "train.t_bucket": bucket_of(level, prepared.size.head.buckets),
        "train.sequence_in": torch.cat([inputs[name].tokens for name in SEQUENCE], dim=1),
        "train.trunk_out": torch.cat([codec.get_submodule("widen")(states[name].hidden) for name in SEQUENCE], dim=1),
        "train.block0_out": in_sequence(read[0]),
        "train.block1_out": in_sequence(whole[0][0]["expert"]),
        "train.velocity": answer,
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Acting from the recorded noise, in equal steps, each told the bucket that published code cuts a float to.

    Published ``int(1000 (1 - k / N))`` falls a bucket short where the float does (0.2 becomes 199), which a schedule
    of ours does not: so the middle of the published bucket is told here, step by step.
    """
    net, steps, buckets = prepared.net, prepared.size.denoising_steps, prepared.size.head.buckets
    actions, found = prepared.case.inputs["infer.noise"], []
    for step in range(steps):
        told = (int((1.0 - step / float(steps)) * buckets) + 0.5) / buckets
        latents = prepared.latents(actions)
        levels = {"action": torch.full((len(actions), 1), told)}
        states = net(embedded(net, latents, levels, latents), {})
        found.append(net.codec("action").read(states["action"].hidden))
        actions = actions - found[-1] / steps
    return {"infer.action": actions, "infer.velocities": torch.stack(found)}
