"""The Cosmos tower against diffusers' ``CosmosTransformer3DModel`` at tiny random size, forward and gradients."""

from __future__ import annotations

import pytest
import torch
from einops import repeat
from video_twin import CHANNELS, PATCH, WORDS, Clip, answer_of, assert_one_network, with_weights_of

from crossroads.recipes.names import cosmos_names
from crossroads.towers.cosmos import Cosmos

SIZES = {
    "small": Cosmos(
        width=48, mlp=96, depth=2, heads=2, head_dim=24, rotary=(8, 8, 8), modulation_width=4, head_eps=1e-5
    ),
    "rotary time in seconds": Cosmos(
        width=60,
        mlp=120,
        depth=1,
        heads=3,
        head_dim=20,
        rotary=(8, 6, 6),
        stretch=(2.0, 1.0, 1.0),
        video_hz=16.0,
        modulation_width=8,
        head_eps=1e-5,
    ),
}
LEVELS = {"one level": [[0.3], [0.8]], "a level per frame": [[0.0, 0.7, 0.7], [0.0, 0.2, 0.9]]}


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("cosmos", SIZES.values(), ids=SIZES)
def test_the_cosmos_tower_is_diffusers_own_forward_and_backward(cosmos: Cosmos, level: list[list[float]]) -> None:
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
    names = tuple(
        cosmos_names("codecs.video", "towers.video", "", depth=cosmos.depth, patch=PATCH, dialect="diffusers")
    )
    net, clip = with_weights_of(twin, cosmos, names), Clip.drawn(level)
    clean = (clip.level == 0).float().expand(len(level), clip.x.shape[2])
    theirs = twin(
        clip.x,
        timestep=clip.level[:, 0] if clip.level.shape[1] == 1 else clip.level[:, None, :, None, None],
        encoder_hidden_states=clip.words,
        fps=cosmos.video_hz,
        condition_mask=repeat(
            torch.stack([clean, torch.zeros_like(clean)], dim=1),
            "b c t -> b c t h w",
            h=clip.x.shape[-2],
            w=clip.x.shape[-1],
        ),
        return_dict=False,
    )[0]
    assert_one_network(answer_of(net, cosmos, clip), theirs, net, twin, names)
