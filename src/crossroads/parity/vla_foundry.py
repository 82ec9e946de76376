"""VLA Foundry's ``DiffusionPolicy`` as recorded from its own code (TRI 2026, arXiv 2604.19728; MIT).

A case holds one training step at given steps of noise, and acting from given noise, once behind actions of the past
that stay as they are. Recorded embeddings stand for the vision-language model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.handed import TimedStates
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.errors import InputError, nearest
from crossroads.net import StreamNet
from crossroads.noise import StepLevels, corrupt, velocity
from crossroads.objectives import Flow
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import by_group, embedded, hearing, joint_of, load_published
from crossroads.recipes.vla_foundry import head_edges, head_groups, head_streams
from crossroads.recipes.vla_foundry_names import UNUSED, head_names
from crossroads.recipes.vla_foundry_sizes import NANO, FoundrySize
from crossroads.schedule import Denoise
from crossroads.solvers import Strides
from crossroads.stage import Stage, Tower
from crossroads.streams import Stream, reads
from crossroads.towers.foundry import Foundry, NormKind
from crossroads.towers.given import Given
from crossroads.towers.group import GroupState

NORMS: Mapping[str, NormKind] = {
    **{"default_layer_norm": "layer", "lp_layer_norm": "layer", "no_wb_layer_norm": "bare", "rms_norm": "rms"},
    **{"gain_only_layer_norm": "gain", "gain_only_lp_layer_norm": "gain"},
}
ROTARY = {"rotary": True, "rotary_float32": True, "none": False}
FOUNDED = {"embedding_dim": None, "use_diffusers_scheduler": False, "use_flow_matching_scheduler": True}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: FoundrySize
    net: StreamNet

    def latents(self, actions: Tensor) -> dict[str, Latent]:
        given = self.case.inputs
        seen = all_valid(given["backbone_embeddings"])
        told = torch.zeros(len(actions), self.size.told.num_tokens("now"), 0)
        found = {"seen": seen, "told": all_valid(told), "action": all_valid(actions)}
        return {**found, **({"state": all_valid(_rows(given["proprioception"]))} if self.size.state else {})}

    def inputs(self, actions: Tensor, level: Float[Tensor, " b"]) -> dict[str, Any]:
        latents = self.latents(actions)
        return embedded(self.net, latents, {"action": level[:, None], "told": level[:, None]}, latents)

    def states(self, actions: Tensor, level: Float[Tensor, " b"]) -> dict[str, GroupState]:
        return self.net(self.inputs(actions, level), {})

    def answer(self, actions: Tensor, level: Float[Tensor, " b"]) -> Float[Tensor, "b n a"]:
        return self.net.codec("action").read(self.states(actions, level)["action"].hidden)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    given = case.inputs
    outputs = {**trained(prepared), "sample_actions_no_past": acted(prepared, None)}
    if "past_mask" in given:
        outputs["sample_actions"] = acted(prepared, given["past_mask"])
    return Produced(outputs=outputs)


def prepare(case: GoldenCase) -> Prepared:
    """The recipe's head at the case's size, with the published weights, behind a tower that hands on what was
    recorded."""
    size, width = size_of(case), case.inputs["backbone_embeddings"].shape[2]
    features = TextFeatures(source="recorded", width=width, max_tokens=size.told.num)
    stage = Stage(
        name="head",
        streams=(Stream(name="seen", carries="text", codec=features, tower="given"), *head_streams(size)),
        edges=(*reads("seen", "seen"), *head_edges(size)),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="head", spec=size.head)),
        schedule=(Denoise(streams=("action",), solver=size.solver),),
        sequence=head_groups(size),
    )
    net = build_net(stage).eval()
    unused = {name for name in case.weights if any(re.fullmatch(pattern, name) for pattern in UNUSED)}
    load_published(net, head_names(size), case.weights, unused=frozenset(unused))
    return Prepared(case=case, size=size, net=net)


def size_of(case: GoldenCase) -> FoundrySize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    trunk = made["transformer"]
    made.demand(FOUNDED)
    if trunk["norm_type"] not in NORMS or trunk["positional_embedding_type"] not in ROTARY:
        asked = f"{trunk['norm_type']}, {trunk['positional_embedding_type']}"
        raise InputError(
            where=trunk.where,
            expected=f"a norm among {', '.join(NORMS)} and places among {', '.join(ROTARY)}",
            got=asked,
            do=nearest(trunk["norm_type"], NORMS),
        )
    width, gated = trunk["hidden_dim"], trunk["ffn_type"] == "swiglu"
    num_actions, action_size = given["actions"].shape[1:]
    clip = made.get("clamp_range")
    clip = None if clip is None else (float(clip[0]), float(clip[1]))
    num_steps, proprioception = made["num_timesteps"], made["proprioception_dim"]
    network = f"transformer.layers.0.feed_forward.{'w3' if gated else '2'}.weight"
    return replace(
        NANO,
        told=TimedStates(
            sources=("seen",),
            num=given["backbone_embeddings"].shape[1],
            state_width=made["backbone_dim"],
            num_steps=num_steps,
            added=_added(made),
        ),
        state=StateToken(num_state=proprioception) if proprioception and "proprioception" in given else None,
        action=ActionTokens(num_actions=num_actions, action_size=action_size, control_hz=10.0),
        head=Foundry(
            width=width,
            mlp=case.weights[network].shape[1],
            depth=trunk["n_layers"],
            heads=trunk["n_heads"],
            norm=NORMS[trunk["norm_type"]],
            eps=trunk["norm_eps"],
            gated=gated,
            norm_heads=trunk["qk_norm"],
            norm_in=bool(trunk.get("post_embed_norm")),
            rotary=ROTARY[trunk["positional_embedding_type"]],
        ),
        causal=trunk["is_causal"],
        action_flow=Flow(levels=StepLevels(num=num_steps), clip=clip),
        solver=Strides.about(made["num_inference_steps"], num_steps, clip),
    )


def _added(made: Named[Any]) -> bool:
    """Whether the level's row is added, or a token of its own."""
    way = made["diffusion_step_conditioning"]
    if way not in ("add", "concat"):
        where = f"{made.where}.diffusion_step_conditioning"
        raise InputError(where=where, expected="'add' or 'concat'", got=repr(way), do="There is no other.")
    return way == "add"


def _rows(state: Tensor) -> Float[Tensor, "b p s"]:
    """States of one step, or of several."""
    return state if state.ndim == 3 else state[:, None]


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step: actions of the past are shown as they are, and owe nothing."""
    net, given, size = prepared.net, prepared.case.inputs, prepared.size
    level, future = given["timesteps"] / size.told.num_steps, given["future_mask"].bool()[..., None]
    noised = torch.where(future, corrupt(given["actions"], given["noise"], level[:, None, None]), given["actions"])
    noised = noised if size.action_flow.clip is None else noised.clamp(*size.action_flow.clip)
    shown = torch.where(future, noised, given["actions"])
    joint, order = joint_of(net, "head"), head_groups(size)
    with ExitStack() as stack:
        entered = {name: stack.enter_context(hearing(net.get_submodule(f"codecs.{name}.enter"))) for name in order}
        layers = [stack.enter_context(hearing(layer)) for layer in joint.layers]
        answer = prepared.answer(shown, level)
    error = future * (answer - velocity(given["actions"], given["noise"])) ** 2
    inputs = prepared.inputs(shown, level)

    def in_sequence(x: Tensor) -> Tensor:
        """Our tower holds its groups in the order of their names."""
        parts = by_group(net, inputs, "head", x)
        return torch.cat([parts[name] for name in order], dim=1)

    return {
        "predicted_direction": answer,
        "noisy_actions": noised,
        "transformer_input": torch.cat([entered[name][0] for name in order], dim=1),
        "masked_mse": error.sum() / (future.sum() * error.shape[-1]),
        **{f"layer_{number}": in_sequence(heard[0][0]["head"]) for number, heard in enumerate(layers)},
    }


@torch.no_grad()
def acted(prepared: Prepared, past: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b n a"]:
    """Acting from given noise; what is past is put back behind every step."""
    given, solver = prepared.case.inputs, prepared.size.solver
    start = given["sample_noise"]
    known = torch.zeros_like(start[..., :1]).bool() if past is None else past.bool()[..., None]
    x = torch.where(known, given["actions"], start)

    def asked(flat: Tensor, level: float) -> Tensor:
        shown = torch.where(known, given["actions"], flat.reshape(x.shape))
        return prepared.answer(shown, torch.full((len(x),), level)).flatten(1)

    return torch.where(known, given["actions"], solver.solve(x.flatten(1), asked).reshape(x.shape))
