"""ACT as recorded from the official ``DETRVAE`` (Zhao et al. 2023, arXiv 2304.13705; MIT, the DETR part Apache-2.0).

A case holds one training step (style drawn from saved noise) and one prediction with the style at zero. Saved feature
maps stand for the ResNet. Published code answers from the first layer of its decoder: so does our recipe, which has no
other; the answer of the last layer is that of the same recipe with all of them.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from crossroads.build import build
from crossroads.codecs.maps import FeatureMapCodec, FeatureMaps
from crossroads.codecs.resnet import ResNet
from crossroads.codecs.spec import Latent, all_valid
from crossroads.learner import Prepared
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, interpreter, joint_of, load_published
from crossroads.plans import KL
from crossroads.policy import StreamPolicy
from crossroads.recipes.act import PUBLISHED, ActSize, act, towers_of
from crossroads.recipes.act_names import act_names
from crossroads.space import ActionSpace
from crossroads.streams import Corrupted
from crossroads.towers.classic import ClassicFrame
from crossroads.towers.group import GroupState
from crossroads.towers.spec import Places

ONE_FORM = {"masks": False, "position_embedding": "sine"}
UNUSED = r"pos_table|is_pad_head\..*"
"""Tensors that are computed here, and those that no loss trains."""


class Recorded(nn.Module):
    """Saved feature maps in the place of the network that makes them."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.register_buffer("maps", rearrange(maps, "b v c h w -> (b v) c h w"), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.get_buffer("maps")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """One training step: what was prepared and drawn, and the states that the network left."""

    policy: StreamPolicy
    prepared: Prepared
    states: dict[str, GroupState]
    layers: list[Tensor]
    """What every layer of the decoder hands on."""

    def hidden(self, *names: str) -> Tensor:
        """Last states of some groups side by side, token by token as published code has them."""
        return rearrange(torch.cat([self.states[name].hidden for name in names], dim=1), "b n w -> n b w")


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    whole = size_of(case)
    first = trained(policy_of(replace(whole, decoder=replace(whole.decoder, depth=1)), case), case)
    last = trained(policy_of(whole, case), case)
    padded = case.inputs["is_pad"]
    read = torch.cat([torch.ones(len(padded), 2, dtype=torch.bool), ~padded], dim=1)
    outputs = {**styled(first), **answered(first, last, case), **acted(first, case), **owed(first, case)}
    return Produced(
        outputs={**outputs, **places(first, case)},
        counts={"tap_cvae_encoder_out": rearrange(read, "b n -> n b 1")},
    )


def size_of(case: GoldenCase) -> ActSize:
    """The published size with the numbers of a recorded case, and all layers of its decoder."""
    made = case.meta["constructor_arguments"]
    made.demand(ONE_FORM)
    channels, rows, columns = case.inputs["features"].shape[2:]
    network = ResNet(widths=(channels,), depths=(1,))
    towers = towers_of(
        width=made["hidden_dim"],
        mlp=made["dim_feedforward"],
        heads=made["nheads"],
        num_actions=made["num_queries"],
        depth=made["enc_layers"],
        decoder_depth=made["dec_layers"],
        norm_first=made["pre_norm"],
    )
    return replace(
        PUBLISHED,
        image=FeatureMaps(cameras=tuple(made["camera_names"]), image_hw=(4 * rows, 4 * columns), network=network),
        num_state=case.meta["state_dim"],
        num_actions=made["num_queries"],
        action_size=case.inputs["actions"].shape[2],
        style=case.meta["latent_dim"],
        kl_weight=case.meta["kl_weight"],
        **towers,
    )


def policy_of(size: ActSize, case: GoldenCase) -> StreamPolicy:
    """The recipe at a size with the published weights and the saved feature maps."""
    joints = tuple(f"joint {index}" for index in range(size.num_state))
    numbers = tuple(f"action {index}" for index in range(size.action_size))
    space = ActionSpace(
        robot="recorded",
        action_names=numbers,
        action_units=("1",) * len(numbers),
        low=(-1e9,) * len(numbers),
        high=(1e9,) * len(numbers),
        state_names=joints,
        control_hz=size.control_hz,
    )
    policy = build(act(size), space, seed=0).eval()
    codec = policy.net.codec("image")
    assert isinstance(codec, FeatureMapCodec)
    codec.network = Recorded(case.inputs["features"])  # pyright: ignore[reportAttributeAccessIssue]
    dead = rf"transformer\.decoder\.layers\.(?!({'|'.join(map(str, range(size.decoder.depth)))})\.).*"
    left = frozenset(name for name in case.weights if re.fullmatch(f"{UNUSED}|{dead}", name))
    load_published(policy.net, act_names(size), case.weights, unused=left)
    return policy


def observed(case: GoldenCase) -> dict[str, Latent]:
    """What the policy sees; the pictures themselves are not recorded."""
    given = case.inputs
    views, rows, columns = given["features"].shape[1], *given["features"].shape[3:]
    tokens = torch.ones(len(given["qpos"]), views * rows * columns, dtype=torch.bool)
    pictures = Latent(values=torch.zeros(len(tokens), views, 4 * rows, 4 * columns, 3), valid=tokens)
    return {"state": all_valid(given["qpos"][:, None]), "image": pictures}


@torch.no_grad()
def trained(policy: StreamPolicy, case: GoldenCase) -> Trained:
    """The training step. Published queries for padded actions are read like the others, so all are shown as valid."""
    given = case.inputs
    num, zero = len(given["qpos"]), torch.zeros(len(given["qpos"]), 1)
    actions, noise = given["actions"], given["latent_eps"][:, None]
    latents = {
        **observed(case),
        "style": all_valid(torch.zeros(num, 1, 0)),
        "style_state": all_valid(given["qpos"][:, None]),
        "style_action": Latent(values=actions, valid=~given["is_pad"]),
        "plan": all_valid(noise),
        "action": all_valid(torch.zeros_like(actions)),
    }
    owing = {
        "plan": Corrupted(latent=noise, level=zero, target=torch.zeros_like(noise)),
        "action": Corrupted(latent=torch.zeros_like(actions), level=zero, target=actions),
    }
    prepared = Prepared(latents=latents, levels=dict.fromkeys(latents, zero), owed=owing, given={})
    prepared, states = policy.drawn(prepared, {})
    valid = {name: state.valid for name, state in states.items()}
    with ExitStack() as stack:
        heard = [stack.enter_context(hearing(layer)) for layer in joint_of(policy.net, "decoder").layers]
        states = {**states, **policy.net(policy.inputs(prepared, frozenset(latents) - set(states), valid), states)}
    layers = [found[0][0]["decoder"] for found in heard]
    return Trained(policy=policy, prepared=prepared, states=states, layers=layers)


def styled(step: Trained) -> dict[str, Tensor]:
    """The style encoder's states and the distribution that it tells."""
    mean, log_variance = step.prepared.owed["plan"].target[:, 0].chunk(2, dim=1)
    hidden = step.hidden("style", "style_state", "style_action")
    return {"tap_cvae_encoder_out": hidden, "mu": mean, "logvar": log_variance}


@torch.no_grad()
def answered(first: Trained, last: Trained, case: GoldenCase) -> dict[str, Tensor]:
    """The chunk as the first and as the last layer of the decoder would have it; what is padded, of the first."""
    read = first.policy.net.codec("action").read
    frame = joint_of(last.policy.net, "decoder").frames["decoder"]
    assert isinstance(frame, ClassicFrame)
    hidden = first.states["action"].hidden
    return {
        "tap_transformer_memory_train": first.hidden("plan", "state", "image"),
        "tap_decoder_hs_all_layers_train": torch.stack([frame.norm(layer) for layer in last.layers]),
        "train_a_hat": read(hidden),
        "train_a_hat_last_layer": read(last.states["action"].hidden),
        "train_is_pad_hat": padding(hidden, case),
    }


def padding(hidden: Tensor, case: GoldenCase) -> Tensor:
    """The published head for padding, which no loss trains, on our states."""
    return functional.linear(hidden, case.weights["is_pad_head.weight"], case.weights["is_pad_head.bias"])


@torch.no_grad()
def acted(first: Trained, case: GoldenCase) -> dict[str, Tensor]:
    """The chunk by the recipe's schedule."""
    policy = first.policy
    started = interpreter(policy.net, observed(case), {})
    with hearing(policy.net) as states:
        settled = started.run(policy.recipe.stage.schedule)
    hidden = states[-1]["action"].hidden
    return {"test_a_hat": settled.streams["action"], "test_is_pad_hat": padding(hidden, case)}


@torch.no_grad()
def owed(first: Trained, case: GoldenCase) -> dict[str, Tensor]:
    """The losses; published code divides the error by all actions, padded or not."""
    policy, padded = first.policy, case.inputs["is_pad"]
    action, plan = (policy.recipe.stage.stream(name).objective for name in ("action", "plan"))
    assert action is not None
    assert isinstance(plan, KL)
    answer = policy.net.codec("action").read(first.states["action"].hidden)
    errors = action.loss(answer, first.prepared.owed["action"], ~padded) * (~padded).sum(dim=1)
    divergence = policy.losses_of(first.prepared, first.states).terms["plan"].mean() / plan.weight
    absolute = errors.sum() / padded.numel()
    return {"l1": absolute, "kl": divergence, "loss": absolute + plan.weight * divergence}


def places(first: Trained, case: GoldenCase) -> dict[str, Tensor]:
    """The fixed places of the style encoder's tokens and of one camera's feature map."""
    net, sides = first.policy.net, case.inputs["features"].shape[3:]
    style, encoder = (joint_of(net, tower).frames[tower] for tower in ("style_encoder", "encoder"))
    assert isinstance(style, ClassicFrame)
    assert isinstance(encoder, ClassicFrame)
    num = 2 + case.inputs["actions"].shape[1]
    line = Places(index=torch.arange(num).float()[None], grid=torch.full((num, 3), torch.nan))
    grid = net.codec("image").grid("now", first.states["image"].hidden.shape[1])
    grid = rearrange(grid, "(h v w) places -> v h w places", h=sides[0], w=sides[1])[0]
    grid = rearrange(grid, "h w places -> (h w) places")
    pictured = Places(index=torch.zeros(1, len(grid)), grid=grid)
    return {
        "cvae_pos_table": style.where(line),
        "image_pos_embedding": rearrange(encoder.where(pictured), "b (h w) c -> b c h w", h=sides[0]),
    }
