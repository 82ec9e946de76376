"""DreamVLA as recorded from its published class (Zhang et al. 2025, arXiv 2507.04447): a pass, the head, its samples.

What is observed is Seer's. Guidance, which our recipe has not, is put together here from two answers of the head.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.foreseen import FuturePatchCodec
from crossroads.codecs.knowledge import EncoderStates, FutureFeatures
from crossroads.codecs.step_actions import StepActions, StepQueries
from crossroads.diffusion import Ddim
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import load_published
from crossroads.parity.seer import count_of, size_of, switched, window_of
from crossroads.recipes.dreamvla import dreamvla
from crossroads.recipes.dreamvla_sizes import PROCESS, DreamVlaSize, Knowledge
from crossroads.recipes.foresight_names import KNOWLEDGE, SEER_UNUSED, dreamvla_names
from crossroads.towers.cognition import CognitionHead
from crossroads.towers.group import GroupState

SWITCHES = {"video": "obs_pred", "depth": "depth_pred", "semantics": "dino_feat_pred", "regions": "sam_feat_pred"}
OUTPUTS = {"video": "image_pred", "depth": "depth_pred", "semantics": "dino_pred", "regions": "sam_pred"}
ONE_FORM = {"phase": "finetune", "use_dit_head": True, "use_depth_query": True, "share_query": False, "atten_goal": 0}
UNUSED = (*SEER_UNUSED, r"action_model\.net\.(history_embedder|z_embedder\.uncondition).*")
GUIDANCE, STEPS = 1.5, 10
"""Of the published sampler (``DreamVLA.forward``, ``mode="test"``)."""


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    case.meta["constructor_arguments"].demand(ONE_FORM)
    size = size_with_head(case)
    net = loaded(case, size)
    asked = (*(part.name for part in size.knowledge), "cognition")
    window = window_of(case, size.observed, net, asked)
    states, _, left = window.run()
    read = rearrange(states["cognition"], "b (t n) w -> (b t) n w", n=size.cognition.num)
    found = {
        "tap_gpt_output": left,
        "attention_visible": window.mask().to(torch.uint8),
        **foreseen(size, net, states),
        **acted(case, net, read),
    }
    return Produced(outputs=found)


def foreseen(size: DreamVlaSize, net: StreamNet, states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The raw answers of every kind; depth is not negative."""
    found = {}
    for part in size.knowledge:
        codec = net.codec(part.name)
        assert isinstance(codec, FuturePatchCodec)
        rows = codec.decoder(rearrange(states[part.name], "b (m q) w -> (b m) q w", q=part.codec.num_queries))
        rows = rows.relu() if part.name == "depth" else rows
        found[OUTPUTS[part.name]] = rearrange(rows, "(m v) p c -> m v 1 p c", v=len(part.codec.cameras))
    return found


def acted(case: GoldenCase, net: StreamNet, read: Float[Tensor, "m n w"]) -> dict[str, Tensor]:
    """The loss of given noise, what is sampled from given noise, and the head on its own."""
    given, found = case.inputs, {}
    if "dit_noise" in given:
        noise, level = given["dit_noise"], PROCESS.level(given["dit_t"])
        times = len(noise) // len(read)  # the whole batch so many times, one behind the other
        clean = repeat(given["action_label"], "b t n a -> (r b t) n a", r=times)
        noisy = PROCESS.noised(clean, noise, level[:, None, None])
        found["dit_loss"] = ((answer(net, noisy, level, read.repeat(times, 1, 1)) - noise) ** 2).mean()
    if "dit_x" in given:
        found["dit_forward"] = answer(net, given["dit_x"], PROCESS.level(given["dit_x_t"]), given["dit_z"])
    if "sampler_x_T" in given:
        blank = case.weights["action_model.net.z_embedder.uncondition"].expand_as(read)
        shape = given["sampler_x_T"].shape

        def guided(x: Tensor, level: float) -> Tensor:
            told = torch.full((len(x),), level)
            usual, without = (answer(net, x.reshape(shape), told, context) for context in (read, blank))
            return (without + GUIDANCE * (usual - without)).flatten(1)

        solver = Ddim(process=PROCESS, steps=STEPS, clip=None)
        samples = solver.solve(given["sampler_x_T"].flatten(1), guided).reshape(
            1, *case.outputs["test_arm"].shape[1:3], -1
        )
        found |= {"test_arm": samples[..., :-1], "test_gripper": samples[..., -1:]}
    return found


def answer(
    net: StreamNet, x: Float[Tensor, "m n a"], level: Float[Tensor, " m"], read: Float[Tensor, "m s w"]
) -> Float[Tensor, "m n a"]:
    """What the head answers to the noisy actions of single steps, given the states that it reads."""
    valid = {
        name: torch.ones(part.shape[:2], dtype=torch.bool)
        for name, part in {"action": x, "slot": read, "cognition": read}.items()
    }
    slots = read.new_zeros(*read.shape[:2], 0)
    latents = {"action": x, "slot": slots}
    inputs = {name: net.embed(name, latent, level[:, None], valid) for name, latent in latents.items()}
    known = {"cognition": GroupState(keys=(), values=(), hidden=read, valid=valid["cognition"])}
    return net.codec("action").read(net(inputs, known)["action"].hidden)


def size_with_head(case: GoldenCase) -> DreamVlaSize:
    """The sizes that the constructor was given, and those that only the weights tell."""
    made, weights = case.meta["constructor_arguments"], case.weights
    observed = size_of(case)
    assert observed.action is not None
    assert observed.video is not None
    num, size = made["action_pred_steps"], weights["action_model.net.final_layer.linear.bias"].shape[0]
    replaced = next(
        value[1]
        for key, value in case.meta["size_constants_replaced"].items()
        if key == f"{made['dit_type']} depth/width/heads"
    )
    depth, width, heads = replaced
    knowledge = []
    for name, switch in SWITCHES.items():
        if switch not in made or not made[switch]:
            continue
        _, _, blocks, first = KNOWLEDGE[name]
        codec = replace(observed.video, depth=count_of(weights, rf"{blocks}\.(\d+)\."))
        if name != "video":
            num_masks = weights[f"{first}_position_embedding"].shape[1] - codec.num_queries
            told_by = EncoderStates(
                source="none",
                size=weights[f"{first}_pred.bias"].shape[0],
                patch=1,
                square=math.isqrt(num_masks),
            )
            codec = FutureFeatures(**vars(codec), told_by=told_by)
        knowledge.append(Knowledge(name=name, codec=codec, weight=1.0))
    steps = observed.image.steps
    return DreamVlaSize(
        observed=replace(observed, action=None, video=None),
        knowledge=tuple(knowledge),
        cognition=StepQueries(num=num, steps=steps),
        action=StepActions(num_actions=num, action_size=size, control_hz=1.0, steps=steps),
        head=CognitionHead(
            width=width,
            mlp=weights["action_model.net.blocks.0.mlp.fc1.bias"].shape[0],
            depth=depth,
            heads=heads,
            slots=num,
            num_actions=num,
            context_width=observed.tower.width,
            num_steps=PROCESS.num_steps,
        ),
        denoising_steps=STEPS,
        departs=(),
    )


def loaded(case: GoldenCase, size: DreamVlaSize) -> StreamNet:
    """Our network with the published weights; fixed places are no weights of ours."""
    net = build_net(switched(dreamvla(size).stage, case.meta["constructor_arguments"]))
    idle = [KNOWLEDGE[name] for name in set(KNOWLEDGE) - {part.name for part in size.knowledge}]
    patterns = (*UNUSED, r".*_decoder_position_embedding", *(rf"({q}|{m}|{b}\..*|{f}_.*)" for q, m, b, f in idle))
    unused = frozenset(name for name in case.weights if any(re.fullmatch(part, name) for part in patterns))
    load_published(net, dreamvla_names(size), case.weights, unused=unused)
    for part in size.knowledge:
        places = case.weights[f"{KNOWLEDGE[part.name][3]}_position_embedding"][0]
        net.get_buffer(f"codecs.{part.name}.decoder.places").copy_(places)
    return net
