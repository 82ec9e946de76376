"""The action head of VLA-JEPA as recorded from its published class (arXiv 2602.10098), GR00T N1's for one robot.

A case holds one training step with its draws replaced by saved tensors (``train.*``) and one run of the head from saved
noise (``infer.*``); recorded features stand for the vision-language model. Published time runs to the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens, GrootEnds
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.net import StreamNet
from crossroads.noise import corrupt, level_from_data_forward, velocity
from crossroads.objectives import Flow
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.dit4dit_head import ONE_FORM
from crossroads.parity.recorded import embedded, hearing, joint_of, load_published
from crossroads.recipes.dit4dit_names import head_names
from crossroads.recipes.dit4dit_sizes import PUBLISHED
from crossroads.recipes.names import Renamed
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootN1Head, bucket_of

SEQUENCE = ("state", "future", "action")
"""The published order of the head's tokens."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our head with its weights. ``shift``: the published ``noise_s``."""

    case: GoldenCase
    net: StreamNet
    buckets: int
    steps: int
    shift: float
    num_future: int

    def latents(self, actions: Tensor) -> dict[str, Latent]:
        """What the head is fed."""
        given = self.case.inputs
        future = torch.zeros(len(actions), self.num_future, 0)
        found = {"features": given["vl_embs"], "state": given["state"], "future": future, "action": actions}
        return {name: all_valid(value) for name, value in found.items()}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    return Produced(outputs={**trained(prepared), **acted(prepared)})


def prepare(case: GoldenCase) -> Prepared:
    """Our head with the recorded weights."""
    made, given = case.meta["constructor"]["action_model"], case.inputs
    model, trunk = case.meta["constructor"]["size"], made["diffusion_model_cfg"]
    trunk.demand(ONE_FORM)
    made.demand({"add_pos_embed": True})
    assert trunk["num_layers"] % 2 == 0, "layers take turns"
    buckets, num_future = made["num_timestep_buckets"], made["num_target_vision_tokens"]
    head = GrootN1Head(
        heads=model["num_attention_heads"],
        head_dim=model["attention_head_dim"],
        mlp=case.weights["model.transformer_blocks.0.ff.net.2.weight"].shape[1],
        depth=trunk["num_layers"] // 2,
        context_width=trunk["cross_attention_dim"],
        buckets=buckets,
    )
    hidden = (made["hidden_size"],)
    num_actions, action_size = given["actions"].shape[1:]
    state = StateToken(num_state=given["state"].shape[2], hidden=hidden, activation="relu")
    action = ActionTokens(
        num_actions=num_actions,
        action_size=action_size,
        control_hz=1.0,
        hidden_out=hidden,
        activation="relu",
        head=GrootEnds(num_places=made["max_seq_len"], widened=trunk["output_dim"], buckets=buckets),
    )
    net = build_net(stage_of(head, state, LearnedTokens(num=num_future), action, given["vl_embs"].shape[1])).eval()
    names = [
        replace(one, negated=True) if ".leave.layers.1." in one.ours else one
        for one in head_names(replace(PUBLISHED, head=head))
    ]
    load_published(net, [*names, Renamed(ours="codecs.future.tokens", theirs=("future_tokens.weight",))], case.weights)
    return Prepared(
        case=case,
        net=net,
        buckets=buckets,
        steps=made["num_inference_timesteps"],
        shift=made["noise_s"],
        num_future=num_future,
    )


def stage_of(head: GrootN1Head, state: StateToken, future: LearnedTokens, action: ActionTokens, num: int) -> Stage:
    """The head on ``num`` features that are given."""
    features = TextFeatures(source="recorded", width=head.context_width, max_tokens=num)
    flow = Stream(name="action", carries="action", codec=action, tower="expert", views=(NOISED,), objective=Flow())
    return Stage(
        name="head",
        streams=(
            Stream(name="features", carries="text", codec=features, tower="given"),
            Stream(name="state", carries="state", codec=state, tower="expert", told="action"),
            Stream(name="future", carries="plan", codec=future, tower="expert", told="action"),
            flow,
        ),
        edges=(
            *reads("features", "features"),
            *(edge for name in SEQUENCE for edge in reads(name, *SEQUENCE)),
            *(edge for name in SEQUENCE for edge in reads(name, "features", via="cross")),
        ),
        towers=(Tower(name="given", spec=Given(width=head.context_width)), Tower(name="expert", spec=head)),
        schedule=(Denoise(streams=("action",), solver=Euler(steps=4)),),
    )


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step."""
    net, given = prepared.net, prepared.case.inputs
    time = (prepared.shift - given["beta_sample"]) / prepared.shift
    level = level_from_data_forward(time.double())
    latents = prepared.latents(corrupt(given["actions"], given["noise"], level.float()[:, None, None]))
    inputs = embedded(net, latents, {"action": level[:, None]}, latents)
    first = joint_of(net, "expert").layers[0]
    with hearing(first.get_submodule("blocks.expert.read")) as read, hearing(first) as whole:
        states = net(inputs, {})
    answer = -net.codec("action").read(states["action"].hidden)
    error = (answer + velocity(given["actions"], given["noise"])) ** 2
    num = {name: latents[name].values.shape[1] for name in SEQUENCE}

    def in_sequence(x: Tensor) -> Tensor:
        """Our towers hold their groups in the order of their names."""
        parts = dict(zip(sorted(num), x.split([num[name] for name in sorted(num)], dim=1), strict=True))
        return torch.cat([parts[name] for name in SEQUENCE], dim=1)

    widen = net.get_submodule("codecs.action.widen")
    return {
        "train.loss": error.mean()[None],
        "train.t_continuous": time,
        "train.t_bucket": bucket_of(time, prepared.buckets).long(),
        "train.sequence_in": torch.cat([inputs[name].tokens for name in SEQUENCE], dim=1),
        "train.trunk_out": torch.cat([widen(states[name].hidden) for name in SEQUENCE], dim=1),
        "train.block0_out": in_sequence(read[0]),
        "train.block1_out": in_sequence(whole[0][0]["expert"]),
        "train.velocity": answer,
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """Acting from the recorded noise, in equal steps, each told the middle of the bucket that published code tells."""
    net, steps, buckets = prepared.net, prepared.steps, prepared.buckets
    actions, found = prepared.case.inputs["infer.noise"], []
    for step in range(steps):
        told = (int(step / float(steps) * buckets) + 0.5) / buckets
        latents = prepared.latents(actions)
        level = level_from_data_forward(torch.full((len(actions), 1), told, dtype=torch.float64))
        states = net(embedded(net, latents, {"action": level}, latents), {})
        found.append(-net.codec("action").read(states["action"].hidden))
        actions = actions + found[-1] / steps
    return {"infer.action": actions, "infer.velocities": torch.stack(found)}
