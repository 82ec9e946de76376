"""The Wan tower on its own against diffusers' ``WanTransformer3DModel``: one level per sample, one level per token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from einops import rearrange
from published_case import Heard
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.objectives import Flow
from crossroads.recipe import Stage, Tower
from crossroads.recipes.names import exported, imported, load_weights, wan_ends, wan_names
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.given import Given
from crossroads.towers.joint import GroupInput, Joint
from crossroads.towers.spec import Places
from crossroads.towers.wan import Wan
from golden import GoldenCase, golden_cases, load_golden

pytestmark = pytest.mark.golden
CASES = [(case, mode) for case in golden_cases("wan_block") for mode in ("t2v", "ti2v")]


@dataclass(frozen=True, kw_only=True)
class Published:
    """One mode of a recorded case beside our network with its weights."""

    case: GoldenCase
    mode: str
    net: StreamNet
    patch: int


def stage_of(case: GoldenCase, mode: str) -> Stage:
    """A video stream that reads itself and, across, the words."""
    made = case.meta["constructor"][mode]
    _, channels, num_latents, rows, columns = case.inputs[f"{mode}.x"].shape
    head, words = made["attention_head_dim"], case.inputs[f"{mode}.text"]
    autoencoder = WanAutoencoder(source="recorded", channels=channels)
    video = VideoLatents(
        cameras=("front",),
        image_hw=(rows * autoencoder.space_factor, columns * autoencoder.space_factor),
        future_s=tuple(float(step) for step in range(4 * num_latents)),
        autoencoder=autoencoder,
        patch=made["patch_size"][1],
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


def names_of(case: GoldenCase, mode: str):
    made = case.meta["constructor"][mode]
    return (
        *wan_ends("codecs.video", "towers.video", f"{mode}.", made["patch_size"][1], "diffusers"),
        *wan_names("towers.video", f"{mode}.", made["num_layers"], "diffusers"),
    )


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def published(request: pytest.FixtureRequest) -> Published:
    case, mode = load_golden("wan_block", request.param[0]), request.param[1]
    stage = stage_of(case, mode)
    net = build_net(stage).eval()
    load_weights(net, imported(names_of(case, mode), case.weights))
    return Published(case=case, mode=mode, net=net, patch=case.meta["constructor"][mode]["patch_size"][1])


@torch.no_grad()
def outputs_of(published: Published) -> dict[str, Tensor]:
    """The recorded outputs of one mode."""
    net, given, p = published.net, published.case.inputs, published.patch
    x, words = given[f"{published.mode}.x"], given[f"{published.mode}.text"]
    _, _, frames, rows, columns = (size if axis < 3 else size // p for axis, size in enumerate(x.shape))
    level = given[f"{published.mode}.timestep"].double() / 1000  # per sample, or per token
    level = level if level.ndim == 2 else level[:, None]
    tokens = rearrange(x, "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)
    valid = {"text": torch.ones(words.shape[:2]).bool(), "video": torch.ones(tokens.shape[:2]).bool()}
    places = torch.cartesian_prod(torch.arange(frames), torch.arange(rows), torch.arange(columns)).float()
    video = net.embed("video", tokens, level, valid)
    video = replace(video, places=Places(index=video.places.index, grid=places))
    inputs: dict[str, GroupInput] = {
        "text": net.embed("text", words, torch.zeros(len(words), 1), valid),
        "video": video,
    }
    joint = next(joint for joint in net.joints if isinstance(joint, Joint) and "video" in joint.towers)
    frame = joint.frames["video"]
    first, told, levels, context = (
        Heard.of(module)
        for module in (
            joint.layers[0],
            *(frame.get_submodule(f) for f in ("level_out", "level_project", "context_out")),
        )
    )
    states = net(inputs, {})
    answer = net.codec("video").read(states["video"].hidden)
    picture = rearrange(answer, "b (t h w) (p q c) -> b c t (h p) (w q)", t=frames, h=rows, w=columns, p=p, q=p)
    found = {
        "velocity": picture,
        "block0_out": first.outputs[0][0]["video"],  # pyright: ignore[reportArgumentType]
        "temb": told.outputs[0],
        "timestep_proj_slice": levels.outputs[0][..., :8],
        "text_embedded": context.outputs[0][:, :4],
    }
    return {f"{published.mode}.{name}": tensor for name, tensor in found.items()}


def test_every_recorded_output_of_the_wan_tower_is_reproduced(published: Published) -> None:
    found = outputs_of(published)
    assert found.keys() == {name for name in published.case.outputs if name.startswith(f"{published.mode}.")}
    for name, ours in found.items():
        published.case.assert_close(name, ours.reshape(published.case.outputs[name].shape))


def test_diffusers_names_cover_every_tensor_of_the_mode_and_lead_back_to_it(published: Published) -> None:
    names = names_of(published.case, published.mode)
    back = exported(names, imported(names, published.case.weights))
    assert back.keys() == {name for name in published.case.weights if name.startswith(f"{published.mode}.")}
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, published.case.weights[name], atol=0, rtol=0)
