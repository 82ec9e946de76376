"""DreamZero as recorded from the official ``CausalWanModel`` (dreamzero0/dreamzero, Apache-2.0).

A case holds one teacher-forced pass over inputs that are noised already (``train.*``), and a run of the server's
network block by block, keys and values kept (``infer.*``). The two read by different edges (``as_served``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.image_features import ImageFeatures
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import level_from_timestep
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, by_group, embedded, hearing, joint_of, load_published, mask_between
from crossroads.recipe import Recipe
from crossroads.recipes.dreamzero import as_served, dreamzero
from crossroads.recipes.dreamzero_sizes import PUBLISHED, DreamZeroSize
from crossroads.recipes.names import dreamzero_names
from crossroads.towers.given import Given
from crossroads.towers.group import GroupState
from crossroads.towers.wan import Wan

ONE_FORM = {"model_type": "i2v", "num_state_per_block": 1}
PATCH = 2  # CausalWanModel's default; no case says otherwise
SEQUENCE = ("video.now", "video.clean", "opening", "video", "action", "state")
"""The published order. ``opening`` is the noised copy of the frame of now: it reads itself and nobody reads it, so we
run the group ``video.now`` once more, alone and at its level."""
CONTEXT = ("image", "text")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network, and the latents and levels (per token) of its groups."""

    case: GoldenCase
    size: DreamZeroSize
    net: StreamNet
    latents: dict[str, Latent]
    levels: dict[str, Tensor]

    def picture(self, tokens: Float[Tensor, "b n c2"]) -> Float[Tensor, "b c t h w"]:
        """Latent frames, channels first."""
        rows, columns = self.size.video.grid_hw
        sizes = {"h": rows, "w": columns, "p": PATCH, "q": PATCH}
        return rearrange(tokens, "b (t h w) (p q c) -> b c t (h p) (w q)", **sizes)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    recipe = dreamzero(size_of(case))
    trained, served = prepare(case, recipe), prepare(case, as_served(recipe))
    return Produced(outputs={**taught(trained), **acted(served), "train.visibility": mask_of(trained)})


def size_of(case: GoldenCase) -> DreamZeroSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    made.demand(ONE_FORM)
    _, channels, num_latents, rows, columns = given["noisy_latents"].shape
    scale, head = WanAutoencoder(source="recorded", channels=channels, space_factor=8), made["dim"] // made["num_heads"]
    if made["max_chunk_size"] < 1 or channels != made["out_dim"]:
        raise InputError(
            where=f"{case.meta.where}.constructor",
            expected="a local window (max_chunk_size 1 or more) and as many channels out as the latent has",
            got=f"max_chunk_size {made['max_chunk_size']}, out_dim {made['out_dim']}, {channels} channels",
            do="crossroads has no other form of this network.",
        )
    image_hw = (rows * scale.space_factor, columns * scale.space_factor)
    side, num = 2 * (head // 6), given["state"].shape[1]
    narrow = (made["hidden_size"],)
    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=made["text_dim"], max_tokens=given["context"].shape[1]),
        text_tower=Given(width=made["text_dim"]),
        image=ImageFeatures(
            source="recorded",
            width=given["clip_feature"].shape[2],
            num_tokens_read=given["clip_feature"].shape[1],
            cameras=("front",),
            image_hw=image_hw,
        ),
        video=VideoLatents(
            cameras=("front",),
            image_hw=image_hw,
            future_s=tuple(float(step) for step in range(1, 1 + TIME_FACTOR * (num_latents - 1))),
            autoencoder=scale,
            patch=PATCH,
            beside=made["in_dim"] - made["out_dim"],
        ),
        video_tower=Wan(
            width=made["dim"],
            mlp=made["ffn_dim"],
            depth=made["num_layers"],
            heads=made["num_heads"],
            head_dim=head,
            rotary=(head - 2 * side, side, side),
            frequency_width=made["freq_dim"],
            context_width=made["text_dim"],
            image_width=given["clip_feature"].shape[2],
        ),
        frames_per_block=made["num_frame_per_block"],
        local_frames=made["max_chunk_size"] * made["num_frame_per_block"] + 1,
        state=replace(
            PUBLISHED.state,
            num_state=made["max_state_dim"],
            later_s=tuple(float(block) for block in range(1, num)),
            hidden=narrow,
        ),
        action=replace(
            PUBLISHED.action,
            num_actions=made["num_action_per_block"] * num,
            action_size=made["action_dim"],
            hidden_out=narrow,
        ),
    )


def prepare(case: GoldenCase, recipe: Recipe) -> Prepared:
    """A form of the recipe at the case's size, with the published weights."""
    size, given = size_of(case), case.inputs
    net = build_net(recipe.stage).eval()
    load_published(net, dreamzero_names(size), case.weights)
    clean, noised, beside = (
        rearrange(given[name], "b c t (h p) (w q) -> b (t h w) (p q c)", p=PATCH, q=PATCH)
        for name in ("clean_latents", "noisy_latents", "y")
    )
    per_frame = size.video.num_tokens("now")
    latents = {
        "text": given["context"],
        "image": given["clip_feature"],
        "video.now": clean[:, :per_frame],
        "video.clean": clean[:, per_frame:],
        "opening": noised[:, :per_frame],
        "video": noised[:, per_frame:],
        "action": given["noisy_actions"],
        "state": given["state"],
    }
    told = {name: level_from_timestep(given[f"timestep_{name}"]) for name in ("video", "action")}
    video = repeat(told["video"], "b t -> b (t n)", n=per_frame)
    levels = {name: torch.zeros(part.shape[:2], dtype=torch.float64) for name, part in latents.items()}
    levels |= {"opening": video[:, :per_frame], "video": video[:, per_frame:], "action": told["action"]}
    levels["state"] = told["action"][:, :: case.meta["constructor"]["num_action_per_block"]]  # of its first action
    held = {name: all_valid(part) for name, part in latents.items()}
    now, later = beside[:, :per_frame], beside[:, per_frame:]
    for name, part in {"video.now": now, "opening": now, "video.clean": later, "video": later}.items():
        held[name] = replace(held[name], beside=part)
    return Prepared(case=case, size=size, net=net, latents=held, levels=levels)


@torch.no_grad()
def taught(prepared: Prepared) -> dict[str, Tensor]:
    """The teacher-forced pass, and the opening frame's own."""
    net, latents, levels = prepared.net, prepared.latents, prepared.levels
    frame = joint_of(net, "video").frames["video"]
    names = set(latents) - {"opening"}
    passes = {"": embedded(net, latents, levels, names)}
    alone = {"video.now": latents["opening"], **{name: latents[name] for name in CONTEXT}}
    passes["opening"] = embedded(net, alone, {"video.now": levels["opening"]}, alone)
    found: dict[str, dict[str, Tensor]] = {name: {} for name in ("block0_in", "block0_out", "told", "velocity")}
    for which, inputs in passes.items():
        with hearing(joint_of(net, "video").layers[0]) as heard, hearing(frame.get_submodule("level_project")) as told:
            states = net(inputs, {})
        out, six = (by_group(net, inputs, "video", x) for x in (heard[0][0]["video"], told[0]))
        for name in out:
            into = which or name
            found["block0_in"][into] = inputs[name].tokens
            found["block0_out"][into] = out[name]
            found["told"][into] = rearrange(six[name], "b n (six w) -> b n six w", six=6)
            if name != "state":
                found["velocity"][into] = net.codec(name).read(states[name].hidden)
    whole = {
        name: torch.cat([parts[group] for group in SEQUENCE], dim=1)
        for name, parts in found.items()
        if name != "velocity"
    }
    answers = found["velocity"]
    return {
        "train.velocity_video": prepared.picture(torch.cat([answers["opening"], answers["video"]], dim=1)),
        "train.velocity_action": answers["action"],
        "train.block0_in": whole["block0_in"],
        "train.block0_out": whole["block0_out"],
        "train.block_modulation": whole["told"][:1, ..., : prepared.case.outputs["train.block_modulation"].shape[-1]],
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """The server's passes: the frame of now, then each block denoised once and written clean."""
    net, size, layout = prepared.net, prepared.size, prepared.net.layout
    states: dict[str, GroupState] = {}
    history: list[GroupState] = []

    def ran(names: tuple[str, ...], block: int) -> dict[str, GroupState]:
        """Some groups' tokens of one block; what is observed once is cut into no blocks."""
        inputs = {}
        for name in names:
            per_block = (
                layout.clock.per_block(net.group(name).stream.name) if name not in ("video.now", *CONTEXT) else 0
            )
            part = slice(block * per_block, (block + 1) * per_block) if per_block else slice(None)
            values = prepared.latents[name].shown[:, part]
            valid = torch.ones(values.shape[:2], dtype=torch.bool)
            if name in states:
                valid = torch.cat([states[name].valid, valid], dim=1)
            inputs[name] = net.embed(name, values, prepared.levels[name][:, part], {name: valid}, block * per_block)
        return net(inputs, states)

    states |= ran((*CONTEXT, "video.now"), 0)
    kept = size.local_frames * size.video.num_tokens("now")
    found = {"infer.frame0_write_video_out": prepared.picture(net.codec("video").read(states["video.now"].hidden))}
    for block in range(size.num_blocks):
        moved = ran(("video", "action", "state"), block)
        found[f"infer.block{block + 1}_velocity_video"] = prepared.picture(
            net.codec("video").read(moved["video"].hidden)
        )
        found[f"infer.block{block + 1}_velocity_action"] = net.codec("action").read(moved["action"].hidden)
        states |= ran(("video.clean",), block)
        history = [states["video.now"], states["video.clean"]]
        length = sum(state.valid.shape[1] for state in history)
        found[f"infer.block{block + 1}_cache_len"] = torch.tensor([min(length, kept)])
    for kind, parts in {"k": [state.keys[0] for state in history], "v": [state.values[0] for state in history]}.items():
        found[f"infer.final_cache_layer0_{kind}"] = torch.cat(parts, dim=1)[:, -kept:]
    return found


def mask_of(prepared: Prepared) -> Bool[Tensor, "q k"]:
    """Who reads whom in the published sequence."""
    num = {name: prepared.latents[name].valid.shape[1] for name in SEQUENCE if name != "opening"}
    place = {name: "video.now" if name == "opening" else name for name in SEQUENCE}
    order = [(name, number) for name in SEQUENCE for number in range(num[place[name]])]
    seen = mask_between(prepared.net.layout, num, [(place[name], number) for name, number in order])
    alone = torch.tensor([name == "opening" for name, _ in order])
    return seen & (alone[:, None] == alone[None, :])
