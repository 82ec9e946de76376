"""The Cosmos tower against diffusers' ``CosmosTransformer3DModel`` at tiny random size, forward and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from einops import rearrange, repeat
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.objectives import Flow
from crossroads.recipe import Stage, Tower
from crossroads.recipes.names import cosmos_names, exported, imported, load_weights
from crossroads.schedule import Denoise
from crossroads.streams import NOISED, Stream, reads
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given
from crossroads.towers.spec import Places

WORDS = 16
SIZES = {
    "small": Cosmos(width=48, mlp=96, depth=2, heads=2, head_dim=24, rotary=(8, 8, 8), modulation_width=4),
    "unstretched": Cosmos(
        width=60,
        mlp=120,
        depth=1,
        heads=3,
        head_dim=20,
        rotary=(8, 6, 6),
        stretch=(2.0, 1.0, 1.0),
        video_hz=16.0,
        modulation_width=8,
    ),
}
FRAMES, ROWS, COLUMNS, CHANNELS, PATCH = 3, 3, 2, 4, 2


def net_of(cosmos: Cosmos) -> StreamNet:
    """A clip that reads itself and, across, the words."""
    autoencoder = WanAutoencoder(source="none", channels=CHANNELS, space_factor=8)
    video = VideoLatents(
        cameras=("front",),
        image_hw=(8 * PATCH * ROWS, 8 * PATCH * COLUMNS),
        future_s=tuple(float(step) for step in range(4 * FRAMES)),
        autoencoder=autoencoder,
        patch=PATCH,
        marked=True,
    )
    text = TextFeatures(source="none", width=WORDS, max_tokens=7)
    stage = Stage(
        name="video",
        streams=(
            Stream(name="text", carries="text", codec=text, tower="text"),
            Stream(name="video", carries="video", codec=video, tower="video", views=(NOISED,), objective=Flow()),
        ),
        edges=(*reads("text", "text"), *reads("video", "video"), *reads("video", "text", via="cross")),
        towers=(
            Tower(name="text", spec=Given(width=WORDS)),
            Tower(name="video", spec=replace(cosmos, context_width=WORDS)),
        ),
        schedule=(Denoise(streams=("video",), steps=1),),
    )
    return build_net(stage)


def answer_of(net: StreamNet, x: Tensor, level: Tensor, words: Tensor) -> Tensor:
    """The raw output of the network on a latent clip ``b c t h w``, channels first as published."""
    sizes = {"p": PATCH, "q": PATCH}
    tokens = rearrange(x, "b c t (h p) (w q) -> b (t h w) (p q c)", **sizes)
    valid = {"text": torch.ones(words.shape[:2]).bool(), "video": torch.ones(tokens.shape[:2]).bool()}
    grid = torch.cartesian_prod(torch.arange(FRAMES), torch.arange(ROWS), torch.arange(COLUMNS)).float()
    video = net.embed("video", tokens, level, valid)
    video = replace(video, places=Places(index=video.places.index, grid=grid))
    states = net({"text": net.embed("text", words, torch.zeros(len(words), 1), valid), "video": video}, {})
    read = net.codec("video").read(states["video"].hidden)
    return rearrange(read, "b (t h w) (p q c) -> b c t (h p) (w q)", t=FRAMES, h=ROWS, w=COLUMNS, **sizes)


@pytest.mark.parametrize("per_frame", [False, True], ids=["one level", "a level per frame"])
@pytest.mark.parametrize("cosmos", SIZES.values(), ids=SIZES)
def test_the_cosmos_tower_is_diffusers_own_forward_and_backward(cosmos: Cosmos, per_frame: bool) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
    torch.manual_seed(0)
    twin = diffusers.CosmosTransformer3DModel(
        in_channels=CHANNELS + 2,
        concat_padding_mask=False,  # needs torchvision; the channel of zeros comes with the condition instead
        out_channels=CHANNELS,
        num_attention_heads=cosmos.heads,
        attention_head_dim=cosmos.head_dim,
        num_layers=cosmos.depth,
        mlp_ratio=cosmos.mlp / cosmos.width,
        text_embed_dim=WORDS,
        adaln_lora_dim=cosmos.modulation_width,
        max_size=(8, 16, 16),
        patch_size=(1, PATCH, PATCH),
        rope_scale=cosmos.stretch,
        extra_pos_embed_type=None,
    )
    published = {name: parameter.detach() for name, parameter in twin.named_parameters()}
    names = cosmos_names("codecs.video", "towers.video", "", depth=cosmos.depth, patch=PATCH, dialect="diffusers")
    net = net_of(cosmos)
    load_weights(net, imported(names, published))
    x, words = torch.randn(2, CHANNELS, FRAMES, PATCH * ROWS, PATCH * COLUMNS), torch.randn(2, 7, WORDS)
    frame_level = torch.tensor([[0.0, 0.7, 0.7], [0.0, 0.2, 0.9]]) if per_frame else torch.tensor([[0.3], [0.8]])
    clean = (frame_level == 0).float().expand(2, FRAMES)
    marks = torch.stack([clean, torch.zeros_like(clean)], dim=1)
    told = {"timestep": frame_level[:, None, :, None, None] if per_frame else frame_level[:, 0]}
    theirs = twin(
        x,
        encoder_hidden_states=words,
        fps=cosmos.video_hz,
        condition_mask=repeat(marks, "b c t -> b c t h w", h=x.shape[-2], w=x.shape[-1]),
        return_dict=False,
        **told,
    )[0]
    level = repeat(frame_level, "b t -> b (t n)", n=ROWS * COLUMNS) if per_frame else frame_level
    ours = answer_of(net, x, level, words)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    target = torch.randn(ours.shape)
    for found in (ours, theirs):
        (found - target).pow(2).mean().backward()
    places, parameters = net.weight_names(("video", "text")), dict(net.named_parameters())
    gradients = {public: parameters[place].grad for public, place in places.items() if place in parameters}
    back = exported(names, gradients)  # pyright: ignore[reportArgumentType]
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(back[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
