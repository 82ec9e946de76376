"""SmolVLA: joint layers and layers that map keys, one token for a square of patches; its published weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import policy_of, prepared_batch
from released import goes_in_and_comes_out
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build_net
from crossroads.codecs.pixels import PatchCodec, ShuffledPatches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.cost.flops import Work, parameters
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.parity.recorded import embedded, joint_of
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.smolvla import PUBLISHED, smolvla
from crossroads.recipes.smolvla_names import UNUSED, smolvla_names
from crossroads.recipes.transfer import Official
from crossroads.towers.attend import Dense, Sdpa
from crossroads.towers.llama import Llama, SmolExpert

PICTURE = ShuffledPatches(
    cameras=("front",), image_hw=(16, 24), patch=4, depth=1, vision_width=12, vision_mlp=20, heads=2, shuffle=2
)
TINY = replace(
    PUBLISHED,
    image=PICTURE,
    text=TextTokens(
        vocabulary=PretrainedVocabulary(source="none", size=30, start=None, end=2), max_tokens=5, scaled=True
    ),
    state=StateToken(num_state=3),
    action=replace(PUBLISHED.action, num_actions=4, action_size=3),
    language=Llama(width=16, mlp=24, depth=4, heads=4, kv_heads=2, head_dim=6),
    expert=SmolExpert(width=12, mlp=20, depth=4, heads=4, kv_heads=2, head_dim=6),
)
RELEASED = Official(recipe=smolvla(TINY), names=smolvla_names(TINY), unused=UNUSED)


def made() -> StreamNet:
    torch.manual_seed(0)
    return build_net(smolvla(TINY).stage)


def latents(net: StreamNet, batch: int = 1) -> dict[str, Latent]:
    drawn = torch.Generator().manual_seed(4)
    shapes = {name: net.codec(name).latent_shape(net.group(name).view.kind) for name in net.layout.groups}
    found = {name: all_valid(torch.randn(batch, *shape, generator=drawn)) for name, shape in shapes.items()}
    found["image"] = Latent(values=found["image"].values, valid=torch.ones(batch, PICTURE.num_tokens("now")).bool())
    found["text"] = all_valid(torch.randint(0, 30, (batch, 5), generator=drawn))
    return found


@torch.no_grad()
def answered(net: StreamNet, given: dict[str, Latent]) -> Tensor:
    states = net(embedded(net, given, {"action": torch.full((1, 1), 0.5)}, given), {})
    return net.codec("action").read(states["action"].hidden)


def moved(given: dict[str, Latent], name: str, token: int) -> dict[str, Latent]:
    """The same with one token of a group changed."""
    values = given[name].values.clone()
    values[:, token] += 1
    return {**given, name: replace(given[name], values=values)}


def test_every_second_layer_is_joint_and_there_an_action_reads_those_before_it() -> None:
    own = [edge for edge in smolvla(PUBLISHED).stage.edges if edge.dst == edge.src == "action"]
    assert [(edge.when, edge.layers) for edge in own] == [("causal", tuple(range(0, 16, 2)))]
    net = made()
    given = latents(net)
    base, other = answered(net, given), answered(net, moved(given, "action", 2))
    assert torch.equal(base[:, :2], other[:, :2])
    assert (base[:, 2:] - other[:, 2:]).abs().amax(dim=-1).min() > 1e-3


def test_layers_that_map_keys_read_the_language_model_through_their_own_maps() -> None:
    """With the joint layers' reading of the state silenced, the state still reaches the actions; and it does so through
    the maps alone."""
    net = made()
    given = latents(net)
    reach = (answered(net, given) - answered(net, moved(given, "state", 0))).abs().max()
    layers = joint_of(net, "expert").layers
    mapping = [layers[index].get_submodule("blocks.expert") for index in (1, 3)]
    with torch.no_grad():
        for index in (0, 2):
            layers[index].get_parameter("blocks.expert.out.weight").zero_()
        mapped = (answered(net, given) - answered(net, moved(given, "state", 0))).abs().max()
        for block in mapping:
            block.get_parameter("v.weight").zero_()
        cut = (answered(net, given) - answered(net, moved(given, "state", 0))).abs().max()
    assert reach > 1e-3
    assert mapped > 1e-4
    assert cut == 0
    assert [tuple(block.get_parameter("k.weight").shape) for block in mapping] == [(12, 12), (12, 12)]


def test_mapped_keys_are_the_same_however_attention_is_computed_and_shared() -> None:
    net = made()
    given = latents(net)
    found = []
    for attend in (Sdpa(), Sdpa(max_waste=0.0), Dense()):
        net.attend_by(attend)
        found.append(answered(net, given))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


def test_maps_learn_while_the_language_model_stands_still() -> None:
    policy = policy_of("smolvla")
    policy.enter(policy.recipe.phase("head"))
    assert policy.fixed_groups() == {"image", "text", "state"}
    policy.zero_grad(set_to_none=True)
    policy.losses(prepared_batch(policy), {}).total.mean().backward()
    block = joint_of(policy.net, "expert").layers[1].get_submodule("blocks.expert")
    grads = [block.get_parameter(f"{part}.weight").grad for part in "kv"]
    policy.zero_grad(set_to_none=True)
    assert all(grad is not None and grad.any() for grad in grads)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stage.edges.action <- action.layers": None}, r"layers.*none of \[1, 3, 5\]"),
        ({"stage.edges.action <- image.grad": False}, r"a gradient: tower 'expert' maps what it reads"),
    ],
)
def test_reading_that_maps_cannot_serve_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        smolvla().vary(change)


def test_a_square_of_patches_is_one_token() -> None:
    codec = PatchCodec(replace(PICTURE, depth=0), 10)
    assert sum(weight.numel() for weight in codec.parameters()) == replace(PICTURE, depth=0).num_parameters(10)
    pixels = torch.zeros(1, 1, 16, 24, 3)
    base = codec.embed(pixels, torch.zeros(1, 1))
    assert base.shape == (1, 6, 10)
    for token, (row, column) in enumerate((row, column) for row in (0, 8) for column in (0, 8, 16)):
        for inside in ((0, 0), (7, 7)):
            other = pixels.clone()
            other[0, 0, row + inside[0], column + inside[1]] = 200
            changed = (codec.embed(other, torch.zeros(1, 1)) - base).abs().amax(dim=-1)[0] > 0
            assert changed.nonzero().flatten().tolist() == [token]
    assert codec.grid("now", 6).tolist() == [[0, r, c] for r in (0, 1) for c in (0, 1, 2)]


def test_published_sizes_weigh_what_the_paper_says() -> None:
    """0.45 B with the head for words, which is not here; an expert of about 0.1 B; 64 tokens a picture."""
    large = recipe("smolvla", "published")
    parts = parameters(large).parts
    assert sum(parts.values()) + 49280 * 960 == pytest.approx(0.45e9, rel=0.01)
    assert parts["towers.expert"] == pytest.approx(0.1e9, rel=0.03)
    assert large.stage.stream("image").codec.num_tokens("now") == 3 * 64


def test_the_official_layout_goes_in_and_comes_out_again(tmp_path: Path) -> None:
    beside = ("normalize_inputs.buffer_observation_state.mean", "model.vlm_with_expert.vlm.lm_head.weight")
    given = goes_in_and_comes_out(RELEASED, tmp_path, beside)
    assert given["model.vlm_with_expert.lm_expert.layers.1.self_attn.k_proj.weight"].shape == (12, 12)
    assert given["model.vlm_with_expert.lm_expert.layers.1.self_attn.q_proj.weight"].shape == (24, 12)
    assert given["model.vlm_with_expert.vlm.model.connector.modality_projection.proj.weight"].shape == (16, 48)


def test_weights_and_work_of_the_published_kind_are_the_counted_ones() -> None:
    """Llama's blocks, fewer heads of keys than of queries, and the shuffle, which nano has not."""
    net = made()
    assert sum(weight.numel() for weight in net.parameters()) == sum(parameters(RELEASED.recipe).parts.values())
    given, names = latents(net), frozenset(net.layout.groups)
    net.attend_by(Sdpa(max_waste=0.0))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(embedded(net, given, {}, names), {})
    work = Work(stage=RELEASED.recipe.stage)
    assert work.run(names) + work.embed(names) == counter.get_total_flops()
