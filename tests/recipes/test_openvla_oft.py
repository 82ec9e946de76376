"""OpenVLA-OFT: blank tokens that everything reads, a chunk in one pass; its published layout of weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import policy_of, prepared_batch
from nano_batch import ROBOT, nano_batch, statistics
from safetensors.torch import load_file, save_file
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build, build_net, fit_normalisers
from crossroads.codecs.fused_pixels import FusedPatchCodec, FusedPatches, VisionTower
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.slices import ActionSlices, SliceCodec
from crossroads.codecs.spec import all_valid
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.cost.flops import Work, parameters
from crossroads.net import StreamNet
from crossroads.parity.recorded import embedded
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.openvla_oft import PUBLISHED, openvla_oft
from crossroads.recipes.openvla_oft_names import openvla_oft_names, unused
from crossroads.recipes.release import write_release
from crossroads.recipes.transfer import Official, export_release, import_release
from crossroads.towers.attend import Sdpa
from crossroads.towers.llama import Llama

PICTURE = FusedPatches(
    cameras=("front", "wrist"),
    image_hw=(8, 12),
    patch=4,
    towers=(
        VisionTower(width=8, mlp=10, depth=1, heads=2, class_token=True, registers=2, layer_scale=True),
        VisionTower(width=12, mlp=14, depth=2, heads=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3)),
    ),
    hidden=18,
)
TINY = replace(
    PUBLISHED,
    image=PICTURE,
    text=TextTokens(vocabulary=PretrainedVocabulary(source="none", size=40, start=None, end=2), max_tokens=4),
    state=StateToken(num_state=3, hidden=(16,)),
    action=ActionSlices(num_actions=3, action_size=2, control_hz=20.0, hidden=10),
    language=Llama(width=16, mlp=24, depth=2, heads=2, kv_heads=2, head_dim=8),
)
RELEASED = Official(recipe=openvla_oft(TINY), names=openvla_oft_names(TINY, blank=30), unused=unused(TINY))


def made() -> StreamNet:
    torch.manual_seed(0)
    return build_net(openvla_oft(TINY).stage)


def test_everything_reads_everything_in_one_sequence() -> None:
    stage = openvla_oft(PUBLISHED).stage
    assert stage.sequence == ("start", "image", "state", "text", "action", "end")
    assert {(edge.dst, edge.src) for edge in stage.edges} == {(a, b) for a in stage.sequence for b in stage.sequence}
    assert {(edge.when, edge.via, edge.layers) for edge in stage.edges} == {("all", "joint", None)}
    num = {group.name: group.stream.codec.num_tokens(group.view.kind) for group in stage.layout.groups.values()}
    assert num == {"start": 1, "image": 2 * 256, "state": 1, "text": 64, "action": 8 * 7, "end": 2}


def test_blanks_are_zeros_behind_a_mark_and_a_mark_ends_them() -> None:
    net = made()
    action, end = (net.codec(name) for name in ("action", "end"))
    tokens = action.embed(torch.randn(2, 6, 1), torch.zeros(2, 1))
    assert torch.equal(tokens[0, 0], net.get_parameter("codecs.action.mark")[0])
    assert not tokens[:, 1:].any()
    last = end.embed(torch.zeros(2, 2, 0), torch.zeros(2, 1))
    assert not last[:, 0].any()
    assert torch.equal(last[1, 1], net.get_parameter("codecs.end.tokens")[0])


def test_an_action_is_read_from_the_states_of_its_own_numbers() -> None:
    codec = SliceCodec(TINY.action, 16)
    hidden = torch.randn(1, 6, 16)
    other = hidden.clone()
    other[:, 3] += 1  # the second number of the second action
    changed = (codec.read(hidden) != codec.read(other)).flatten().nonzero().flatten().tolist()
    assert changed == [2, 3]
    assert codec.decode(torch.arange(6.0).view(1, 6, 1)).tolist() == [[[0, 1], [2, 3], [4, 5]]]


def test_actions_that_are_not_valid_owe_nothing_and_the_rest_are_scaled() -> None:
    policy = build(openvla_oft(), ROBOT, seed=1)
    fit_normalisers(policy, state=None, actions=statistics((0.0, 0.0, 0.0, 0.5), (0.02, 0.02, 0.02, 0.3)))
    batch = nano_batch(policy.recipe)
    target = policy.net.target("action", batch)
    assert target.values.shape == (2, 48, 1)
    assert target.valid[1].sum() == 4 * batch.actions_valid[1].sum() == 32
    codec = policy.net.codec("action")
    assert isinstance(codec, SliceCodec)
    torch.testing.assert_close(codec.decode(target.values), batch.actions)


def test_vision_transformers_are_told_pixels_in_their_own_scale_and_stand_side_by_side() -> None:
    codec = FusedPatchCodec(PICTURE, 16)
    assert sum(weight.numel() for weight in codec.parameters()) == PICTURE.num_parameters(16)
    pixels = torch.randint(0, 256, (1, 2, 8, 12, 3)).float()
    raw = pixels[0].movedim(-1, 1) / 255
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    first, second = codec.towers
    seen = torch.cat([first.states((raw - 0.5) / 0.5), second.states((raw - mean) / std)], dim=-1)  # pyright: ignore[reportCallIssue]
    tokens = codec.embed(pixels, torch.zeros(1, 1))
    torch.testing.assert_close(tokens, codec.projected(seen).flatten(0, 1)[None])
    assert tokens.shape == (1, 12, 16)


def test_published_sizes_weigh_what_the_papers_say() -> None:
    """Prismatic 7B: Llama 2 with 6.6 B in its layers, 0.7 B of vision without the last layers."""
    parts = parameters(recipe("openvla_oft", "published")).parts
    assert parts["towers.language"] == pytest.approx(6.48e9, rel=0.01)
    assert parts["codecs.image"] == pytest.approx(0.70e9 + 0.071e9, rel=0.02)
    assert parts["codecs.action"] == pytest.approx(7 * 4096 * 4096 + 2 * 4096**2, rel=0.01)


def test_the_state_reaches_every_action_of_the_chunk() -> None:
    policy = policy_of("openvla_oft")
    policy.enter(policy.recipe.phases[0])
    prepared = prepared_batch(policy)
    other = {**prepared.latents, "state": all_valid(prepared.latents["state"].values + 1)}
    found = []
    for latents in (prepared.latents, other):
        shown = replace(prepared, latents=latents)
        with torch.no_grad():
            states = policy.net(policy.inputs(shown, frozenset(latents), {}), {})
        found.append(policy.net.codec("action").read(states["action"].hidden))
    assert (found[0] - found[1]).abs().amin() > 0


def test_the_official_layout_goes_in_and_comes_out_again(tmp_path: Path) -> None:
    """The marks go in from rows of the table of words, and come out into them."""
    net = made()
    with torch.no_grad():
        for row, name in ((1, "start.tokens"), (30, "action.mark"), (2, "end.tokens")):
            net.get_parameter("codecs.text.table.weight")[row] = net.get_parameter(f"codecs.{name}")[0]
    (file,) = write_release(net, RELEASED.names, tmp_path / "release")
    given = load_file(file)
    assert given["vision_backbone.featurizer.blocks.0.ls2.scale_factor"].shape == (8,)
    assert given["vision_backbone.featurizer.reg_token"].shape == (1, 2, 8)
    assert given["projector.fc1.weight"].shape == (18, 20)
    more = {"language_model.lm_head.weight": torch.zeros(1), "vision_backbone.featurizer.norm.bias": torch.zeros(1)}
    save_file({**given, **more, "vision_backbone.fused_featurizer.blocks.2.norm1.bias": torch.zeros(1)}, file)
    found = import_release(RELEASED, str(tmp_path / "release"), tmp_path / "ours", dtype=torch.float32)
    for (name, ours), (other, theirs) in zip(found.named_parameters(), net.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(ours, theirs)
    with torch.no_grad():
        found.get_parameter("codecs.action.mark").add_(1)
    (tuned,) = write_release(found, RELEASED.names, tmp_path / "tuned", shard_bytes=10**9)
    table = load_file(tuned)["language_model.model.embed_tokens.weight"]
    assert torch.equal(table[30], found.get_parameter("codecs.action.mark")[0])
    (back,) = export_release(RELEASED, tmp_path / "ours", tmp_path / "back")
    returned = load_file(back)
    assert returned.keys() == given.keys()
    assert all(torch.equal(returned[name], given[name]) for name in given)


def test_weights_and_work_of_the_published_kind_are_the_counted_ones() -> None:
    """Two vision transformers, layer scale and registers, which nano has not."""
    net = made()
    assert sum(weight.numel() for weight in net.parameters()) == sum(parameters(RELEASED.recipe).parts.values())
    names = frozenset(net.layout.groups)
    shapes = {name: net.codec(name).latent_shape(net.group(name).view.kind) for name in names}
    latents = {name: all_valid(torch.randn(1, *shape)) for name, shape in shapes.items()}
    latents["image"] = replace(latents["image"], valid=torch.ones(1, PICTURE.num_tokens("now")).bool())
    latents["text"] = all_valid(torch.randint(0, 40, (1, 4)))
    net.attend_by(Sdpa(max_waste=0.0))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        states = net(embedded(net, latents, {}, names), {})
        net.codec("action").read(states["action"].hidden)
    work = Work(stage=RELEASED.recipe.stage)
    told = work.run(names) + work.embed(names) + work.read("action", work.num("action"))
    assert told == counter.get_total_flops()
