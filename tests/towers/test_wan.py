"""The Wan tower against diffusers' ``WanTransformer3DModel`` at tiny random size, forward and gradients."""

from __future__ import annotations

import pytest
import torch
from video_twin import CHANNELS, PATCH, WORDS, Clip, answer_of, assert_one_network, with_weights_of

from crossroads.recipes.names import wan_ends, wan_names
from crossroads.towers.wan import Wan

SIZES = {
    "small": Wan(width=24, mlp=48, depth=2, heads=2, head_dim=12, rotary=(4, 4, 4), frequency_width=16),
    "wide": Wan(width=60, mlp=90, depth=1, heads=3, head_dim=20, rotary=(8, 6, 6), frequency_width=32, eps=1e-5),
}
LEVELS = {"one level": [[0.3], [0.8]], "a level per token": [[0.0, 0.7, 0.7], [0.0, 0.2, 0.9]]}


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
@pytest.mark.parametrize("wan", SIZES.values(), ids=SIZES)
def test_the_wan_tower_is_diffusers_own_forward_and_backward(wan: Wan, level: list[list[float]]) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs crossroads[backbones]")
    torch.manual_seed(0)
    twin = diffusers.WanTransformer3DModel(
        patch_size=(1, PATCH, PATCH),
        num_attention_heads=wan.heads,
        attention_head_dim=wan.head_dim,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=WORDS,
        freq_dim=wan.frequency_width,
        ffn_dim=wan.mlp,
        num_layers=wan.depth,
        eps=wan.eps,
        rope_max_seq_len=32,
    )
    names = (
        *wan_ends("codecs.video", "towers.video", "", PATCH, "diffusers"),
        *wan_names("towers.video", "", wan.depth, "diffusers"),
    )
    net, clip = with_weights_of(twin, wan, names), Clip.drawn(level)
    per_token = clip.level.shape[1] > 1
    timestep = 1000 * (clip.level.repeat_interleave(6, dim=1) if per_token else clip.level[:, 0])
    theirs = twin(
        clip.x,
        timestep=timestep,
        encoder_hidden_states=clip.words,
        return_dict=False,
    )[0]
    assert_one_network(answer_of(net, wan, clip), theirs, net, twin, names)
