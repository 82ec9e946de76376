"""The Wan tower on its own against diffusers' ``WanTransformer3DModel`` (Apache-2.0).

A case has modes: ``t2v`` (one level per sample), ``ti2v`` (one per token), and ``i2v`` (image tokens in the
cross-attention), which no tower of ours carries, so that its outputs are not produced.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.noise import level_from_timestep
from crossroads.objectives import Flow
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, hearing, joint_of, load_published
from crossroads.recipe import Stage, Tower
from crossroads.recipes.names import Renamed, wan_ends, wan_names
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.joint import GroupInput
from crossroads.towers.spec import Places
from crossroads.towers.wan import Wan

MODES = ("t2v", "ti2v")
ONE_FORM = {"cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One mode of a recorded case beside our network with its weights."""

    case: GoldenCase
    mode: str
    net: StreamNet
    patch: int


def run(case: GoldenCase) -> Produced:
    """What a case records of the modes that our tower carries."""
    modes = [mode for mode in MODES if mode in case.meta["constructor"]]
    return Produced(outputs={name: ours for mode in modes for name, ours in outputs_of(prepare(case, mode)).items()})


def prepare(case: GoldenCase, mode: str) -> Prepared:
    """The network of one mode with its published weights."""
    net = build_net(stage_of(case, mode)).eval()
    own = {name: tensor for name, tensor in case.weights.items() if name.startswith(f"{mode}.")}
    load_published(net, names_of(case, mode), own)
    return Prepared(case=case, mode=mode, net=net, patch=case.meta["constructor"][mode]["patch_size"][1])


def names_of(case: GoldenCase, mode: str) -> tuple[Renamed, ...]:
    """The names that diffusers gives the weights of one mode."""
    made = case.meta["constructor"][mode]
    return (
        *wan_ends("codecs.video", "towers.video", f"{mode}.", made["patch_size"][1], "diffusers"),
        *wan_names("towers.video", f"{mode}.", made["num_layers"], "diffusers"),
    )


def stage_of(case: GoldenCase, mode: str) -> Stage:
    """A video stream that reads itself and, across, the words."""
    made = case.meta["constructor"][mode]
    patch = made["patch_size"][1]
    made.demand({**ONE_FORM, "patch_size": [1, patch, patch]})
    _, channels, num_latents, rows, columns = case.inputs[f"{mode}.x"].shape
    head, words = made["attention_head_dim"], case.inputs[f"{mode}.text"]
    autoencoder = WanAutoencoder(source="recorded", channels=channels)
    video = VideoLatents(
        cameras=("front",),
        image_hw=(rows * autoencoder.space_factor, columns * autoencoder.space_factor),
        future_s=tuple(float(step) for step in range(TIME_FACTOR * num_latents)),
        autoencoder=autoencoder,
        patch=patch,
    )
    wan = Wan(
        width=made["num_attention_heads"] * head,
        mlp=made["ffn_dim"],
        depth=made["num_layers"],
        heads=made["num_attention_heads"],
        head_dim=head,
        rotary=(head - 4 * (head // 6), 2 * (head // 6), 2 * (head // 6)),
        frequency_width=made["freq_dim"],
        context_width=made["text_dim"],
        eps=made["eps"],
    )
    text = TextFeatures(source="recorded", width=made["text_dim"], max_tokens=words.shape[1])
    return Stage(
        name="video",
        streams=(
            Stream(name="text", carries="text", codec=text, tower="text"),
            Stream(name="video", carries="video", codec=video, tower="video", views=(NOISED,), objective=Flow()),
        ),
        edges=(*reads("text", "text"), *reads("video", "video"), *reads("video", "text", via="cross")),
        towers=(Tower(name="text", spec=Given(width=made["text_dim"])), Tower(name="video", spec=wan)),
        schedule=(Denoise(streams=("video",), steps=1),),
    )


@torch.no_grad()
def outputs_of(prepared: Prepared) -> dict[str, Tensor]:
    """The recorded outputs of one mode."""
    net, given, p, mode = prepared.net, prepared.case.inputs, prepared.patch, prepared.mode
    x, words = given[f"{mode}.x"], given[f"{mode}.text"]
    _, _, frames, rows, columns = (size if axis < 3 else size // p for axis, size in enumerate(x.shape))
    level = level_from_timestep(given[f"{mode}.timestep"])  # per sample, or per token
    per_sample = level.ndim == 1
    level = level[:, None] if per_sample else level
    tokens = rearrange(x, "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)
    valid = {"text": all_valid(words).valid, "video": all_valid(tokens).valid}
    video = net.embed("video", tokens, level, valid)
    # The first frame is a frame like the others here; in a recipe it is the frame of now, in a group of its own.
    places = torch.cartesian_prod(torch.arange(frames), torch.arange(rows), torch.arange(columns)).float()
    video = replace(video, places=Places(index=video.places.index, grid=places))
    inputs: dict[str, GroupInput] = {
        "text": net.embed("text", words, torch.zeros(len(words), 1), valid),
        "video": video,
    }
    joint = joint_of(net, "video")
    frame = joint.frames["video"]
    with (
        hearing(joint.layers[0]) as first,
        hearing(frame.get_submodule("level_out")) as told,
        hearing(frame.get_submodule("level_project")) as levels,
        hearing(frame.get_submodule("context_out")) as context,
    ):
        states = net(inputs, {})
    answer = net.codec("video").read(states["video"].hidden)
    picture = rearrange(answer, "b (t h w) (p q c) -> b c t (h p) (w q)", t=frames, h=rows, w=columns, p=p, q=p)
    found = {
        "velocity": picture,
        "block0_out": first[0][0]["video"],
        "temb": told[0][:, 0] if per_sample else told[0],
        "timestep_proj_slice": (levels[0][:, 0] if per_sample else levels[0])[..., :8],
        "text_embedded": context[0][:, :4],
    }
    return {f"{mode}.{name}": tensor for name, tensor in found.items()}
