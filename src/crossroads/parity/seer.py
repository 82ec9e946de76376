"""Seer as recorded from its published class (Tian et al. 2024, arXiv 2412.15109; Apache-2.0): one pass, losses, masks.

Recorded are the frozen encoders' features, so our codecs are entered behind them. The masks of pretraining are edges of
the same stage, but for one: a future query that reads the state some steps later has no relation in our vocabulary, and
is put together here from two that differ by a step.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.foreseen import FuturePatchCodec, FuturePatches
from crossroads.codecs.gripper_state import GripperState, GripperStateCodec
from crossroads.codecs.resampled import MaskedAutoencoder, ResampledCodec, ResampledImages
from crossroads.codecs.resampler import Resampler
from crossroads.codecs.sentence import ClipSentences, SentenceTokens
from crossroads.codecs.steps import Steps
from crossroads.layout import Layout
from crossroads.net import StreamNet
from crossroads.objectives import Regress
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import load_published
from crossroads.parity.windows import RecordedWindow, stepwise_mask
from crossroads.recipes.foresight_names import SEER_CAMERAS, SEER_UNUSED, seer_names
from crossroads.recipes.foresight_sizes import OBSERVED, ForesightSize
from crossroads.recipes.seer import seer
from crossroads.stage import Stage
from crossroads.streams import Corrupted, Edge, reads
from crossroads.towers.plain import Gpt

ONE_FORM = {"atten_goal": 0, "phase": "finetune"}


HIDDEN = ("action_decoder.0.bias", "action_decoder.2.bias")


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    case.meta["constructor_arguments"].demand(ONE_FORM)
    size = size_of(case)
    net = loaded(case, size)
    window = window_of(case, size, net, tuple(name for name in ("video", "action") if name in size.asked))
    states, entered, left = window.run()
    codec = seeing(net)
    with torch.no_grad():
        few = codec.resampler(case.inputs["mae_primary"][:, 1:])
    found = {
        "tap_tokens_after_embedding_ln": entered,
        "tap_gpt_output": left,
        "attention_visible": window.mask().to(torch.uint8),
        "tap_resampler_primary": rearrange(few, "b m w -> (b m) w"),
        **answers(case, size, net, states),
    }
    return Produced(outputs={**found, **losses(case, size, net, found), **masks(case)})


@torch.no_grad()
def answers(case: GoldenCase, size: ForesightSize, net: StreamNet, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Actions and frames of every step."""
    found = {}
    if size.action:
        read = net.codec("action").read(states["action"])
        arm, gripper = rearrange(read, "b (t n) a -> b t n a", t=size.action.steps.num).tensor_split([-1], dim=-1)
        found |= {"arm_pred": arm, "gripper_pred": gripper.sigmoid()}
    if size.video:
        frames = net.codec("video").read(states["video"])
        p = size.video.decoder.num_masks
        found["image_pred"] = rearrange(frames, "b (t v) (p c) -> (b t) v p c", t=size.video.steps.num, p=p)
    return found


@torch.no_grad()
def losses(case: GoldenCase, size: ForesightSize, net: StreamNet, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The losses of a window whose every step counts, by our objectives."""
    given, made, total = case.inputs, {}, torch.zeros(())
    steps, recipe = size.image.steps, seer(size).stage
    if size.action and "actions" in given:
        index = torch.arange(steps.num)[:, None] + torch.arange(size.action.num_actions)
        target = given["actions"][:, index].flatten(1, 2)
        target[..., -1] = 2 * ((target[..., -1] + 1) // 2) - 1  # shut unless it is told to be open
        arm, gripper = (found[name].flatten(1, 2) for name in ("arm_pred", "gripper_pred"))
        made["loss_arm"] = mean_loss(Regress(error="smooth"), arm, target[..., :-1])
        both = torch.cat([arm, gripper.logit()], dim=-1)
        objective = recipe.stream("action").objective
        assert isinstance(objective, Regress)
        total = total + mean_loss(objective, both, target)
        once = mean_loss(replace(objective, binary_weight=1.0), both, target)
        made["loss_gripper"] = once - made["loss_arm"]
    if size.video and "label_images_primary" in given:
        codec = net.codec("video")
        assert isinstance(codec, FuturePatchCodec)
        targets = [codec.patches(given[f"label_images_{camera}"]).flatten(0, 1) for camera in SEER_CAMERAS]
        objective = recipe.stream("video").objective
        assert isinstance(objective, Regress)
        pairs = (found["image_pred"].flatten(2), torch.stack(targets, dim=1).flatten(2))
        made |= {"loss_image": mean_loss(objective, *pairs), "target_primary_patches": targets[0]}
        total = total + objective.weight * made["loss_image"]
    return {**made, "loss_total": total} if made else {}


def mean_loss(objective: Regress, output: Tensor, target: Tensor) -> Tensor:
    """The loss of rows that all count, over all samples."""
    owed = Corrupted(latent=target, level=torch.zeros(len(target), 1), target=target)
    return objective.loss(output, owed, torch.ones(output.shape[:2], dtype=torch.bool)).mean()


def size_of(case: GoldenCase) -> ForesightSize:
    """The sizes that the constructor was given, and those that only the weights tell."""
    made, weights = case.meta["constructor_arguments"], case.weights
    width = made["hidden_dim"]
    steps = Steps(num=made["sequence_length"], apart_s=1.0, ahead=1)
    hw = (made["calvin_input_image_size"],) * 2
    features = case.inputs["mae_primary"].shape[-1]
    size = _sized(
        steps,
        latents=made["num_resampler_query"],
        queries=made["num_obs_token_per_image"] if made["obs_pred"] else 0,
        actions=made["action_pred_steps"],
        hw=hw,
        patch=made["patch_size"],
        hidden=tuple(weights[name].shape[0] for name in HIDDEN if name in weights),
        width=width,
    )
    replaced = case.meta["size_constants_replaced"]["resampler depth/heads/dim_head"][1]
    reads_by = Resampler(num=made["num_resampler_query"], depth=replaced[0], heads=replaced[1], head_dim=replaced[2])
    video = size.video and replace(size.video, depth=count_of(weights, r"image_decoder\.(\d+)\."))
    return replace(
        size,
        text=SentenceTokens(
            source=ClipSentences(source="none", width=case.inputs["clip_text_feature"].shape[-1]), steps=steps
        ),
        image=replace(size.image, vision=MaskedAutoencoder(source="none", width=features), resampler=reads_by),
        video=video,
        tower=replace(size.tower, depth=made["transformer_layers"], heads=made["transformer_heads"]),
    )


def _sized(
    steps: Steps,
    *,
    latents: int,
    queries: int,
    actions: int,
    cameras: tuple[str, ...] = SEER_CAMERAS,
    hw: tuple[int, int] = (16, 16),
    patch: int = 8,
    hidden: tuple[int, ...] = (8,),
    width: int = 16,
) -> ForesightSize:
    """Seer over recorded features, of a form in which only its tokens count."""
    return ForesightSize(
        text=SentenceTokens(source=ClipSentences(source="none", width=width), steps=steps),
        state=GripperState(num_state=7, steps=steps),
        image=ResampledImages(
            cameras=cameras,
            image_hw=hw,
            patch=patch,
            vision=MaskedAutoencoder(source="none", width=width),
            resampler=Resampler(num=latents, depth=1, heads=1, head_dim=8),
            steps=steps,
            order="classes last",
        ),
        action=ActionQueries(
            num_actions=actions,
            action_size=7,
            control_hz=1.0,
            steps=steps,
            hidden=hidden,
            activation="relu",
            bounded=True,
            placed=True,
        ),
        video=FuturePatches(
            cameras=cameras,
            image_hw=hw,
            patch=patch,
            num_queries=queries,
            steps=steps,
            even="variance",
            placed=True,
            marked=True,
        )
        if queries
        else None,
        tower=Gpt(width=width, mlp=4 * width, depth=1, heads=1, num_steps=steps.num),
        departs=(),
    )


def count_of(names: object, pattern: str) -> int:
    """How many numbers stand in names at a place."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})  # pyright: ignore[reportGeneralTypeIssues]


def loaded(case: GoldenCase, size: ForesightSize) -> StreamNet:
    """Our network with the published weights."""
    net = build_net(switched(seer(size).stage, case.meta["constructor_arguments"]))
    places, idle = "image_decoder_position_embedding", ("image_decoder.*", "mask_token") if not size.video else ()
    patterns = (*SEER_UNUSED, places, *idle)
    unused = frozenset(name for name in case.weights if any(re.fullmatch(part, name) for part in patterns))
    load_published(net, seer_names(size), case.weights, unused=unused)
    if size.video:
        net.get_buffer("codecs.video.decoder.places").copy_(case.weights[places][0])
    return net


@torch.no_grad()
def window_of(case: GoldenCase, size: ForesightSize, net: StreamNet, asked: tuple[str, ...]) -> RecordedWindow:
    """The recorded features, as our codecs embed them, and the queries that are asked behind them."""
    given, t, level = case.inputs, size.image.steps.num, torch.zeros(1, 1)
    features = [given[f"mae_{camera}"] for camera in size.image.cameras]
    seen = rearrange(torch.stack(features, dim=1), "(b t) v n d -> b t v n d", t=t)
    tokens = {
        "text": net.codec("text").embed(rearrange(given["clip_text_feature"], "(b t) c -> b t c", t=t), level),
        "state": _state(case, net),
        "image": seeing(net).tokens(seen[..., 1:, :], seen[..., 0, :]),
    }
    for name in asked:
        codec = net.codec(name)
        tokens[name] = codec.embed(torch.zeros(len(seen), *codec.latent_shape("noised")), level)
    present = torch.ones(seen.shape[:2], dtype=torch.bool)
    return RecordedWindow(net=net, tokens=tokens, present=present, groups=(*OBSERVED, *asked))


def _state(case: GoldenCase, net: StreamNet) -> Tensor:
    """State tokens; where the gripper is recorded as its two fingers' places, these enter instead of two classes."""
    codec, arm, gripper = net.codec("state"), case.inputs["arm_state"], case.inputs["gripper_state"]
    assert isinstance(codec, GripperStateCodec)
    made = case.meta["constructor_arguments"]
    if made.get("gripper_width"):
        return codec.enter(torch.cat([codec.arm(arm), codec.gripper(gripper)], dim=-1))
    return codec.embed(torch.cat([arm, gripper - 1], dim=-1), torch.zeros(1, 1))  # one class below 1


def seeing(net: StreamNet) -> ResampledCodec:
    codec = net.codec("image")
    assert isinstance(codec, ResampledCodec)
    return codec


def switched(stage: Stage, switches: Named) -> Stage:
    """The stage under the switches of pretraining: which of the present and the foreseen its actions read."""

    def on(name: str) -> bool:
        return name in switches and bool(switches[name])

    edges = stage.edges
    if on("atten_only_obs"):
        present = ("image", *(("state",) if on("attn_robot_proprio_state") else ()))
        edges = tuple(edge for edge in edges if edge.dst != "action" or edge.src not in OBSERVED)
        edges += reads("action", *present, when="same")
    if on("mask_l_obs_ratio"):
        switches.demand({"mask_l_obs_ratio": 1.0})  # a share in between is drawn anew at each pass
        edges = tuple(edge for edge in edges if (edge.dst, edge.src) != ("action", "video"))
    return replace(stage, edges=edges)


def masks(case: GoldenCase) -> dict[str, Tensor]:
    """The masks of further switches, each of sizes of its own; without those of which a share is drawn by chance."""
    asked = case.meta.get("extra_masks", {})
    drawn = {name: asked[name]["mask_l_obs_ratio"] not in (0, 1) for name in asked}
    return {f"mask_{name}": mask_of(asked[name]).to(torch.uint8) for name in asked if not drawn[name]}


def mask_of(switches: Named) -> Bool[Tensor, "m m"]:
    """Who reads whom under some switches; ``num_A`` observed tokens per step, ``num_obs_token`` foreseen."""
    steps = Steps(num=switches["K"], apart_s=1.0, ahead=1)
    size = _sized(
        steps,
        latents=switches["num_A"] - 3,  # beside words, state and one class token
        queries=switches["num_obs_token"],
        actions=switches["action_pred_steps"],
        cameras=SEER_CAMERAS[:1],
    )
    stage = switched(seer(size).stage, switches)
    per_step = {"text": 1, "state": 1, "image": switches["num_A"] - 2}
    per_step |= {"video": switches["num_obs_token"], "action": switches["action_pred_steps"]}
    per_step = {name: num for name, num in per_step.items() if num}

    def seen(edges: tuple[Edge, ...]) -> Bool[Tensor, "m m"]:
        return stepwise_mask(Layout.compile(stage.streams, edges, stage.clock), per_step, steps.num)

    mask = seen(stage.edges)
    goal = switches["atten_goal"]
    if goal and switches["atten_goal_state"]:
        later = [seen((Edge(dst="video", src="state", window=-float(step)),)) for step in (goal, goal + 1)]
        mask = mask | (later[0] & ~later[1])
    return mask
