"""PAD as recorded from the official class (MIT): one forward pass, and the terms of one training step.

Recorded latents, words and maps of depth stand for what makes them. Depth, which no recipe of ours has, is one more
stream of pictures with one channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.stacked_latents import StackedCodec, StackedLatents
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.objectives import Diffusion
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, embedded, hearing, joint_of, load_published, mask_between
from crossroads.recipes.pad import pad, pad_edges, pad_tokens
from crossroads.recipes.pad_names import pad_names
from crossroads.recipes.pad_sizes import PUBLISHED, PadSize
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.dit import DitFrame
from crossroads.towers.given import Given

FIXED = frozenset({"pos_embed", "a_pos_embed", "d_pos_embed"})
"""Of the sizes alone, and not trained."""
ONE_FORM = {"dynamics": True, "learnable_action_pos": False, "text_cond": True, "ckpt_wrapper": False}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights. ``depth``: how depth is patched, if it is there."""

    case: GoldenCase
    size: PadSize
    depth: StackedLatents | None
    net: StreamNet

    @property
    def order(self) -> tuple[str, ...]:
        return ("video", "action", *(("depth",) if self.depth else ()))

    def pictures(self, stream: str, noised: Float[Tensor, "b k h w"], now: Float[Tensor, "b c h w"]) -> Latent:
        """Recorded channels as our tokens: later frames one behind the other, and that of now beside them."""
        codec = self.net.codec(stream)
        assert isinstance(codec, StackedCodec)
        frames = rearrange(noised, "b (t c) h w -> b 1 t h w c", c=now.shape[1])
        sides = {"p": codec.spec.patch, "q": codec.spec.patch}
        beside = rearrange(now, "b c (h p) (w q) -> b (h w) (c p q)", **sides)
        return replace(all_valid(codec.patched(frames)), beside=beside)

    def channels(self, stream: str, answer: Float[Tensor, "b n size"]) -> Float[Tensor, "b k h w"]:
        """Our answer in the recorded shape: noise, then what is said of the variance."""
        codec = self.net.codec(stream)
        assert isinstance(codec, StackedCodec)
        parts = [codec.unpatched(part) for part in answer.chunk(2, dim=-1)]
        return torch.cat([rearrange(part, "b 1 t h w c -> b (t c) h w") for part in parts], dim=1)

    def latents(self, video: Tensor, action: Tensor, depth: Tensor | None) -> dict[str, Latent]:
        """What the network is fed."""
        given = self.case.inputs
        found = {
            "words": all_valid(given["text"][:, None]),
            "video": self.pictures("video", video, given["x_cond"]),
            "action": all_valid(action),
        }
        if self.size.action.num_state:
            found["action"] = replace(found["action"], beside=given["action_cond"])
        if self.depth is not None and depth is not None:
            found["depth"] = self.pictures("depth", depth, given["depth_cond"])
        return found

    def answers(self, latents: Mapping[str, Latent], step: Tensor) -> dict[str, Tensor]:
        level = self.size.process.level(step)[:, None]
        states = self.net(embedded(self.net, latents, dict.fromkeys(self.order, level), latents), {})
        return {name: self.net.codec(name).read(states[name].hidden) for name in self.order}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size, depth = size_of(case)
    net = build_net(stage_of(case, size, depth)).eval()
    names = pad_names(size, "words", depth.patch if depth else 0)
    load_published(net, names, case.weights, unused=FIXED)
    prepared = Prepared(case=case, size=size, depth=depth, net=net)
    with torch.no_grad():
        return Produced(outputs={**passed(prepared), **trained(prepared)})


def size_of(case: GoldenCase) -> tuple[PadSize, StackedLatents | None]:
    """The published size with the numbers of a recorded case; and how depth is patched."""
    made, given = case.meta["constructor_arguments"], case.inputs
    switches = made["args"]
    switches.demand(ONE_FORM)
    made.demand({"learn_sigma": True})
    channels, side, frames = made["in_channels"], made["input_size"], switches["predict_horizon"]
    hidden, action_size = made["hidden_size"], switches["action_dim"]
    if given["noised_action"].shape[1] != 1:
        raise InputError(
            where=f"{case.meta.where}, noised_action",
            expected="all actions in one token",
            got=f"{given['noised_action'].shape[1]} tokens",
            do="crossroads has no other form of this network.",
        )
    video = replace(
        PUBLISHED.video,
        image_hw=(8 * side, 8 * side),
        future_s=tuple(float(1 + frame) for frame in range(frames)),
        autoencoder=ImageAutoencoder(source="none", channels=channels),
        patch=made["patch_size"],
        stacked=frames,
    )
    depth = None
    if switches["use_depth"]:
        depth_side = switches["d_hidden_size"]
        depth = replace(
            video,
            image_hw=(8 * depth_side, 8 * depth_side),
            autoencoder=ImageAutoencoder(source="none", channels=1),
            patch=switches["d_patch_size"],
            stride=switches["d_patch_size"] // made["patch_size"],
        )
    size = replace(
        PUBLISHED,
        video=video,
        action=replace(
            PUBLISHED.action,
            num_actions=given["noised_action"].shape[2] // action_size,
            action_size=action_size,
            num_state=given["action_cond"].shape[2] if switches["action_condition"] else 0,
        ),
        tower=replace(
            PUBLISHED.tower,
            width=hidden,
            mlp=round(hidden * made["mlp_ratio"]),
            depth=made["depth"],
            heads=made["num_heads"],
            level_sizes=(case.weights["t_embedder.mlp.0.weight"].shape[1], hidden, hidden),
            num_ends=3 if depth else 2,
        ),
    )
    return size, depth


def stage_of(case: GoldenCase, size: PadSize, depth: StackedLatents | None) -> Stage:
    """The recipe's transformer on words that are given, with a stream of depth where one was recorded."""
    width = case.inputs["text"].shape[1]
    words = TextFeatures(source="recorded", width=width, max_tokens=1)
    more = () if depth is None else ("depth",)
    groups = ("action", "video", *more)
    maps = tuple(
        Stream(
            name=name,
            carries="video",
            codec=size.video if depth is None else depth,
            tower="model",
            views=(NOISED,),
            objective=Diffusion(process=size.process),
        )
        for name in more
    )
    return Stage(
        name="model",
        streams=(Stream(name="words", carries="text", codec=words, tower="given"), *pad_tokens(size), *maps),
        edges=(
            *pad_edges(*more, blind=case.meta["constructor_arguments"]["args"]["attn_mask"]),
            *(edge for group in groups for edge in reads(group, "words", via="modulate")),
        ),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="model", spec=size.tower)),
        schedule=pad(size).stage.schedule,
    )


def passed(prepared: Prepared) -> dict[str, Tensor]:
    """The forward pass, with what happens inside; our tower holds its groups in the order of their names."""
    given, net = prepared.case.inputs, prepared.net
    latents = prepared.latents(given["x"], given["noised_action"], given["noised_depth"] if prepared.depth else None)
    joint = joint_of(net, "model")
    frame, level = joint.frames["model"], prepared.size.process.level(given["t"])[:, None]
    assert isinstance(frame, DitFrame)
    inputs = embedded(net, latents, dict.fromkeys(prepared.order, level), latents)
    with (
        hearing(joint.layers[0]) as first,
        hearing(frame.level_out) as told,
        hearing(joint.modulators["model__words"]) as words,
    ):
        found = prepared.answers(latents, given["t"])
    lengths = {name: inputs[name].tokens.shape[1] for name in sorted(prepared.order)}
    out = dict(zip(lengths, first[0][0]["model"].split(list(lengths.values()), dim=1), strict=True))
    entered = {name: inputs[name].tokens + frame.placed(inputs[name].places.grid) for name in lengths}
    answers = {
        "tap_tokens_in": torch.cat([entered[name] for name in prepared.order], dim=1),
        "tap_condition": told[0][:, 0] + words[0][:, 0],
        "tap_block0_out": torch.cat([out[name] for name in prepared.order], dim=1),
        "image_out": prepared.channels("video", found["video"]),
        "action_out": found["action"],
    }
    if prepared.depth is not None:
        answers["depth_out"] = prepared.channels("depth", found["depth"])
    order = [(name, index) for name in prepared.order for index in range(lengths[name])]
    return {**answers, "attention_visible": mask_between(net.layout, lengths, order).to(torch.uint8)}


def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The terms of the training step, one step of the process for all streams."""
    given, process = prepared.case.inputs, prepared.size.process
    level = process.level(given["train_t"])
    parts = {"video": ("train_x_start", "train_noise"), "action": ("train_action", "train_action_noise")}
    if prepared.depth is not None:
        parts["depth"] = ("train_depth", "train_depth_noise")
    noised = {
        name: process.noised(given[clean], given[noise], level.reshape(-1, *[1] * (given[clean].ndim - 1)))
        for name, (clean, noise) in parts.items()
    }
    latents = prepared.latents(noised["video"], noised["action"], noised.get("depth"))
    labels = {"video": ("", ""), "action": ("action_", "_a"), "depth": ("depth_", "_depth")}
    answers, found = prepared.answers(latents, given["train_t"]), {}
    for name, (_, noise) in parts.items():
        if name == "action":
            owed = given[noise]
        else:
            owed = prepared.pictures(name, given[noise], given["x_cond" if name == "video" else "depth_cond"]).values
        answer, spread = answers[name].chunk(2, dim=-1)
        bound = process.bound(latents[name].values, owed, answer, spread, level[:, None, None])
        squared, bound = (reduce(part, "b ... -> b", "mean") for part in ((answer - owed) ** 2, bound))
        before, behind = labels[name]
        found |= {f"train_{before}mse": squared, f"train_{before}vb": bound, f"train_loss{behind}": squared + bound}
    return found
