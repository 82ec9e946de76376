"""The action transformer of mimic-video, recorded from a transcription of the released file (Apache-2.0).

Recorded features stand for the video model, and recorded times for both levels. The waves of levels are rounded to
bfloat16 as published, but for the one output that is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import level_from_edm
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, embedded, hearing, joint_of, load_published
from crossroads.recipes.mimic_video import ACTS, mimic_edges, mimic_heads, mimic_schedule
from crossroads.recipes.mimic_video_names import mimic_names
from crossroads.recipes.mimic_video_sizes import PUBLISHED, MimicVideoSize
from crossroads.stage import Stage, Tower
from crossroads.streams import Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.group import GroupInput
from crossroads.towers.mimic import MimicExpert, MimicFrame


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our action transformer with its weights."""

    case: GoldenCase
    size: MimicVideoSize
    net: StreamNet

    def inputs(self, actions: Tensor, times: Tensor, hidden: Tensor | None = None) -> dict[str, GroupInput]:
        """State, actions and features as our tokens; ``times`` are of states and actions, ``hidden`` marks states."""
        given = self.case.inputs
        state, num = given["state"], given["state"].shape[1]
        shown = torch.zeros_like(state[..., :1]) if hidden is None else hidden.expand_as(state[..., :1])
        latents = {
            "state": Latent(values=state, valid=torch.ones(state.shape[:2], dtype=torch.bool), beside=shown),
            "action": all_valid(actions),
            "features": all_valid(given["crossattn_emb"]),
        }
        found = embedded(self.net, latents, {"state": times[:, :num], "action": times[:, num:]}, latents)
        video = level_from_edm(given["context_sigma"])
        return {name: replace(part, heard=video) if name in ACTS else part for name, part in found.items()}

    def answers(self, inputs: dict[str, GroupInput]) -> Tensor:
        """The velocities of states and actions."""
        states = self.net(inputs, {})
        leave = self.net.get_submodule("codecs.action.leave")
        return torch.cat([leave(states[name].hidden) for name in ACTS], dim=1)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size = size_of(case)
    rounded, exact = (prepared(case, replace(size, expert=replace(size.expert, rounded=r))) for r in (True, False))
    given = case.inputs
    shown = unscaled(given["xt"], given["timesteps"])
    with torch.no_grad():
        outputs = told(rounded, rounded.inputs(shown, given["timesteps"]))
        outputs["velocity_all_tokens_time_features_not_rounded"] = exact.answers(
            exact.inputs(shown, given["timesteps"])
        )
        hidden = rounded.inputs(shown, given["timesteps"], given["obs_dropout_mask"])
        outputs["velocity_with_obs_dropout_mask"] = rounded.answers(hidden)
        num = given["state"].shape[1]
        times = torch.cat(
            [torch.full_like(given["state"][..., 0], size.expert.least_level), given["tau"][..., 0]], dim=1
        )
        outputs["denoise_velocity"] = rounded.answers(rounded.inputs(given["x_tau"], times))[:, num:]
    return Produced(outputs=outputs)


def unscaled(shown: Tensor, times: Tensor) -> Tensor:
    """What is scaled to the recorded input when it is embedded."""
    level = times[:, times.shape[1] - shown.shape[1] :, None]
    return shown * ((1 - level) ** 2 + level**2).sqrt()


def prepared(case: GoldenCase, size: MimicVideoSize) -> Prepared:
    net = build_net(stage_of(size, case.inputs["crossattn_emb"].shape[1])).eval()
    load_published(net, mimic_names(size, layers_of(case)), case.weights)
    return Prepared(case=case, size=size, net=net)


def layers_of(case: GoldenCase) -> tuple[int, ...]:
    """The numbers of the maps in the embedders: of each, or of each second where activations are counted too."""
    start = "action_embedder.layers."
    found = {int(name.removeprefix(start).split(".")[0]) for name in case.weights if name.startswith(start)}
    return tuple(sorted(found))


def size_of(case: GoldenCase) -> MimicVideoSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor_arguments"], case.inputs
    made.demand({"use_adaln_lora": True, "out_channels": made["in_channels"]})
    width = made["model_channels"]
    if made["pair_timestep_feature_rank"] != width:
        raise InputError(
            where=f"{made.where}.pair_timestep_feature_rank",
            expected=f"model_channels, {width}",
            got=str(made["pair_timestep_feature_rank"]),
            do="The released code runs with no other.",
        )
    maps = [case.weights[f"action_embedder.layers.{layer}.weight"] for layer in layers_of(case)]
    hidden = tuple(weight.shape[0] for weight in maps[:-1])
    return replace(
        PUBLISHED,
        state=replace(PUBLISHED.state, num_state=made["in_channels"], hidden=hidden),
        action=replace(
            PUBLISHED.action,
            num_actions=given["x_tau"].shape[1],
            action_size=made["in_channels"],
            hidden=hidden,
            first_place=given["state"].shape[1],
        ),
        expert=MimicExpert(
            width=width,
            mlp=round(width * made["mlp_ratio"]),
            depth=made["num_blocks"],
            heads=made["num_heads"],
            context_width=made["crossattn_emb_channels"],
            num_places=made["max_horizon"],
            modulation_width=made["adaln_lora_dim"],
        ),
    )


def stage_of(size: MimicVideoSize, num_features: int) -> Stage:
    """The recipe's action transformer on features that are given; it is told of their level by hand."""
    width = size.expert.context_width
    features = TextFeatures(source="recorded", width=width, max_tokens=num_features)
    return Stage(
        name="head",
        streams=(
            Stream(name="features", carries="text", codec=features, tower="given"),
            *(replace(stream, hears=()) for stream in mimic_heads(size)),
        ),
        edges=(*reads("features", "features"), *mimic_edges("features", tap=None)),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="expert", spec=size.expert)),
        schedule=mimic_schedule(size, 1.0),
    )


def told(prepared: Prepared, inputs: dict[str, GroupInput]) -> dict[str, Tensor]:
    """One pass with what happens inside; our towers hold their groups in the order of their names."""
    joint = joint_of(prepared.net, "expert")
    frame = joint.frames["expert"]
    assert isinstance(frame, MimicFrame)
    num_state, times = inputs["state"].tokens.shape[1], prepared.case.inputs["timesteps"]

    def in_sequence(x: Tensor) -> Tensor:
        return torch.cat([x[:, -num_state:], x[:, :-num_state]], dim=1)

    with (
        hearing(joint.layers[0]) as first,
        hearing(joint.layers[-1]) as last,
        hearing(frame.level_norm) as level,
        hearing(frame.shared) as shared,
    ):
        velocity = prepared.answers(inputs)
    places = torch.cat([inputs[name].places.grid[:, 0] for name in ACTS]).long()
    tokens = torch.cat([inputs[name].tokens for name in ACTS], dim=1)
    return {
        "velocity_all_tokens": velocity,
        "tap_sequence": frame.placed(tokens, places),
        "tap_time_embedding_normed": in_sequence(level[0]),
        "tap_shared_adaln_3D": in_sequence(shared[0]),
        "tap_block0": in_sequence(first[0][0]["expert"]),
        "tap_last_block": in_sequence(last[0][0]["expert"]),
        "tap_time_features_action": frame.wave(times),
        "tap_time_features_video": frame.wave(level_from_edm(prepared.case.inputs["context_sigma"])),
    }
