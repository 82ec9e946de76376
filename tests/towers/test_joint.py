"""The joint layer on a tiny recipe: cuts, cross and modulate edges with layers and taps, and equal ways to attend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from nano_batch import ROBOT, nano_batch
from tiny_stage import EXPERT, LANGUAGE, WORDS, tiny_edges, tiny_recipe
from torch import Tensor

from crossroads.build import build
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipe import Recipe
from crossroads.stage import Tower
from crossroads.streams import Edge, reads
from crossroads.towers.attend import Attend, Dense, Flex, Keys, Placed, Reading, Sdpa
from crossroads.towers.gemma import GemmaFrame
from crossroads.towers.plain import PlainFrame
from crossroads.towers.spec import Context, Places


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def policy_of(edges: tuple[Edge, ...], **replaced: object) -> StreamPolicy:
    """A tiny policy with every weight away from zero, so that no path is closed by its initialisation."""
    recipe = tiny_recipe(edges)
    towers = tuple(Tower(name=t.name, spec=replaced.get(t.name, t.spec)) for t in recipe.stage.towers)  # pyright: ignore
    policy = build(replace(recipe, stage=replace(recipe.stage, towers=towers)), ROBOT, seed=1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded(7)))
    return policy


def loss_and_gradients(policy: StreamPolicy) -> tuple[Tensor, dict[str, Tensor]]:
    policy.enter(policy.recipe.phase("full"))
    policy.zero_grad()
    loss = policy.loss(nano_batch(policy.recipe), generator=seeded()).total
    loss.mean().backward()
    found = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in policy.named_parameters()}
    return loss.detach(), {name: grad.clone() for name, grad in found.items()}


def modulated(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    return tuple(replace(edge, via="modulate") if edge.via == "cross" else edge for edge in edges)


def joint_edges(*, grad: bool = True) -> tuple[Edge, ...]:
    """Everything by joint edges: the actions read the state, and the state reads itself."""
    return (
        *reads("text", "text"),
        *reads("state", "state"),
        *reads("action", "action"),
        Edge(dst="action", src="state", grad=grad),
        *reads("action.clean", "action.clean"),
        *(edge for edge in tiny_edges() if edge.via == "cross"),
    )


def through_words(edges: Callable[[bool], tuple[Edge, ...]], **replaced: object) -> None:
    """A cut changes no value, and leaves the words' tower without any gradient where the open edge has some."""
    (opened, open_grads), (cut, cut_grads) = (
        loss_and_gradients(policy_of(edges(g), **replaced)) for g in (True, False)
    )
    assert torch.equal(opened, cut)
    words = [name for name in cut_grads if ".words." in name or ".codecs.text." in name]
    assert any(bool(open_grads[name].any()) for name in words)
    assert not any(bool(cut_grads[name].any()) for name in words)
    rest = [name for name in cut_grads if name not in words]
    assert all(torch.equal(open_grads[name], cut_grads[name]) for name in rest)


def test_a_cut_cross_edge_leaves_values_and_gives_exactly_zero_gradient() -> None:
    through_words(lambda grad: tiny_edges(grad=grad))
    through_words(lambda grad: tiny_edges(grad=grad, tap=0))


def test_a_cut_modulate_edge_leaves_values_and_gives_exactly_zero_gradient() -> None:
    through_words(lambda grad: modulated(tiny_edges(grad=grad)), expert=replace(EXPERT, context_width=0))


@pytest.mark.parametrize("attend", [Sdpa(), Dense()], ids=["sdpa", "dense"])
def test_a_cut_joint_edge_leaves_values_and_gives_exactly_zero_gradient(attend: Sdpa | Dense) -> None:
    """The state has its own codec, which only the cut edge connects with the loss."""
    found = []
    for grad in (True, False):
        policy = policy_of(joint_edges(grad=grad))
        policy.net.attend_by(attend)
        found.append(loss_and_gradients(policy))
    assert torch.equal(found[0][0], found[1][0])
    state = [name for name in found[0][1] if ".codecs.state." in name]
    assert all(bool(found[0][1][name].any()) for name in state)
    assert not any(bool(found[1][1][name].any()) for name in state)


def test_layers_limit_where_an_edge_is_read() -> None:
    """With the cross-attention of one layer silenced, only an edge that reads elsewhere still matters."""
    for layers, matters in (((0, 2), True), ((1,), False)):
        policy = policy_of(tiny_edges(layers=layers))
        with torch.no_grad():
            policy.net.get_submodule("joints.1.layers.1.blocks.expert.cross_out").weight.zero_()  # pyright: ignore
        batch = nano_batch(policy.recipe)
        told = replace(batch, obs=batch.obs.told(("go left", "press the ball")))
        with torch.no_grad():
            same = torch.equal(*(policy.loss(b, generator=seeded()).total for b in (batch, told)))
        assert same is not matters


def test_layers_limit_joint_edges_and_a_group_that_reads_nothing_in_a_layer_goes_on() -> None:
    full = joint_edges()
    odd = tuple(replace(e, layers=(1,)) if (e.dst, e.src) == ("action", "state") else e for e in full)
    lone = tuple(replace(e, layers=(0,)) if (e.dst, e.src) == ("state", "state") else e for e in full)
    losses = [loss_and_gradients(policy_of(edges))[0] for edges in (full, odd, lone)]
    assert not torch.equal(losses[0], losses[1])
    assert bool(losses[2].isfinite().all())
    for edges in (odd, lone):
        policy = policy_of(edges)
        policy.net.attend_by(Dense())
        torch.testing.assert_close(loss_and_gradients(policy)[0], loss_and_gradients(policy_of(edges))[0])


def test_a_tap_reads_the_hidden_states_after_its_layer() -> None:
    """A tap at layer 0 leaves the layers after it without gradient; no tap reads behind the final norm."""
    grads = loss_and_gradients(policy_of(tiny_edges(tap=0)))[1]
    words = {name: grad for name, grad in grads.items() if ".words." in name}
    assert any(bool(grad.any()) for name, grad in words.items() if ".layers.0." in name)
    assert not any(bool(grad.any()) for name, grad in words.items() if ".layers.1." in name or ".frames." in name)
    last = loss_and_gradients(policy_of(tiny_edges()))[1]
    assert any(bool(grad.any()) for name, grad in last.items() if ".words." in name and ".frames." in name)


def test_modulation_is_the_mean_of_what_is_valid_and_only_that() -> None:
    """Padding the batch with a longer text of another sample changes nothing for the first."""
    policy = policy_of(modulated(tiny_edges()), expert=replace(EXPERT, context_width=0))
    batch = nano_batch(policy.recipe)
    obs = batch.obs.told(("push left", "push left"))
    longer = batch.obs.told(("push left", "push the red cube to the left"))
    with torch.no_grad():
        values = [policy.settle(o, generator=seeded()).streams["action"] for o in (obs, longer)]
    torch.testing.assert_close(values[0][0], values[1][0])
    assert not torch.equal(values[0][1], values[1][1])


@pytest.mark.parametrize("frame", [PlainFrame(WORDS), GemmaFrame(LANGUAGE)], ids=["plain", "gemma"])
def test_towers_that_cannot_be_crossed_or_told_say_so(frame: PlainFrame | GemmaFrame) -> None:
    places = Places(index=torch.zeros(1, 2), grid=torch.zeros(2, 3))
    context = Context(hidden=torch.zeros(1, 3, 8), valid=torch.ones(1, 3, dtype=torch.bool))
    for across, told in (((context,), None), ((), torch.zeros(1, 1, 8))):
        with pytest.raises(InputError, match="joint edges only"):
            frame.condition(torch.zeros(1, 1), (2,), places, across, told)


@dataclass(frozen=True)
class RandomLayer:
    """Three groups in two towers, of which one grows, and a cached one; grouped-query heads, padding, a causal edge, a
    cut edge, and a row that sees nothing."""

    q: dict[str, Tensor]
    k: dict[str, Tensor]
    v: dict[str, Tensor]
    cached: dict[str, Keys]
    readings: tuple[Reading, ...]
    placed: Placed

    def attended(self, attend: Attend) -> dict[str, Tensor]:
        return attend(self.q, self.k, self.v, self.cached, attend.plan(self.readings, self.placed))

    def leaves(self) -> list[Tensor]:
        cached = [x for keys in self.cached.values() for x in (keys.k, keys.v)]
        return [*self.q.values(), *self.k.values(), *self.v.values(), *cached]


def random_layer(generator: torch.Generator, *, kv_heads: int) -> RandomLayer:
    def leaf(num: int, heads: int) -> Tensor:
        return torch.randn(2, num, heads, 6, generator=generator, requires_grad=True)

    spans = {"a": ("left", slice(0, 3)), "b": ("left", slice(3, 8)), "c": ("right", slice(0, 4))}
    towers, num_cached = {"left": 8, "right": 4}, {"old": 6, "c": 2}
    num = {"a": 3, "b": 5, "c": 6, "old": 6}
    past = torch.ones(3, 3).tril(-1).bool()  # the first row sees nothing
    return RandomLayer(
        q={name: leaf(n, 4) for name, n in towers.items()},
        k={name: leaf(n, kv_heads) for name, n in towers.items()},
        v={name: leaf(n, kv_heads) for name, n in towers.items()},
        cached={name: Keys(k=leaf(n, kv_heads), v=leaf(n, kv_heads)) for name, n in num_cached.items()},
        readings=(
            Reading(dst="a", edges=(Edge(dst="a", src="a", when="past"),), masks={"a": past}),
            Reading(dst="b", edges=reads("b", "a", "b"), masks={"a": None, "b": torch.ones(5, 5).tril().bool()}),
            Reading(
                dst="c",
                edges=(*reads("c", "a"), *reads("c", "b", grad=False), *reads("c", "c", "old")),
                masks=dict.fromkeys(num),
            ),
        ),
        placed=Placed(
            spans=spans,
            num_cached=num_cached,
            valid={name: torch.arange(n) < torch.tensor([[n], [n - 1]]) for name, n in num.items()},
            start={},
        ),
    )


def one_by_one(layer: RandomLayer) -> dict[str, Tensor]:
    """What every query token attends, token by token from the edges themselves: no plan, no shared calls."""
    rows: dict[str, list[Tensor]] = {tower: [] for tower in layer.q}
    for reading in layer.readings:
        tower, span = layer.placed.spans[reading.dst]
        for at in range(span.start, span.stop):
            keys, values, seen = [], [], []
            for edge in reading.edges:
                held = [layer.cached[edge.src]] if edge.src in layer.cached else []
                k, v = [x.k for x in held], [x.v for x in held]
                if edge.src in layer.placed.spans:
                    home, where = layer.placed.spans[edge.src]
                    k, v = [*k, layer.k[home][:, where]], [*v, layer.v[home][:, where]]
                keys.append(torch.cat(k, dim=1) if edge.grad else torch.cat(k, dim=1).detach())
                values.append(torch.cat(v, dim=1) if edge.grad else torch.cat(v, dim=1).detach())
                mask = reading.masks[edge.src]
                valid = layer.placed.valid[edge.src]
                seen.append(valid if mask is None else valid & mask[at - span.start])
            k, v, hidden = torch.cat(keys, dim=1), torch.cat(values, dim=1), ~torch.cat(seen, dim=1)
            repeats = 4 // k.shape[2]
            k, v = k.repeat_interleave(repeats, dim=2), v.repeat_interleave(repeats, dim=2)
            score = torch.einsum("bhd,bmhd->bhm", layer.q[tower][:, at], k) / 6**0.5
            share = score.masked_fill(hidden[:, None], -1e30).softmax(dim=-1).masked_fill(hidden[:, None], 0.0)
            rows[tower].append(torch.einsum("bhm,bmhd->bhd", share, v).flatten(1))
    return {tower: torch.stack(found, dim=1) for tower, found in rows.items()}


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("attend", [Sdpa(), Sdpa(max_waste=9.0), Dense()], ids=["sdpa", "riding", "dense"])
def test_every_way_to_attend_is_what_the_edges_say_token_by_token(attend: Attend, kv_heads: int) -> None:
    found = []
    for way in (one_by_one, lambda layer: layer.attended(attend)):
        layer = random_layer(seeded(), kv_heads=kv_heads)
        attended = way(layer)
        sum((value**2).sum() for value in attended.values()).backward()  # pyright: ignore
        found.append((attended, [x.grad if x.grad is not None else torch.zeros_like(x) for x in layer.leaves()]))
    (reference, wanted), (ours, got) = found
    for tower, value in reference.items():
        torch.testing.assert_close(ours[tower], value, rtol=1e-5, atol=1e-5)
    assert not reference["left"][:, 0].any()
    for mine, theirs in zip(got, wanted, strict=True):
        assert bool(mine.isfinite().all())
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_groups_share_a_call_only_while_little_is_wasted() -> None:
    layer = random_layer(seeded(), kv_heads=4)
    assert [len(way.plan(layer.readings, layer.placed)) for way in (Dense(), Sdpa(max_waste=0.0))] == [3, 3]
    (shared,) = Sdpa(max_waste=9.0).plan(layer.readings[:2], layer.placed)
    assert [(rows.source, rows.start, rows.stop) for rows in shared.queries] == [("left", 0, 8)]
    assert [(rows.source, rows.start, rows.stop) for rows in shared.keys] == [("left", 0, 8)]


def test_flex_refuses_to_train_on_cpu() -> None:
    with pytest.raises(InputError, match="training on cpu"):
        random_layer(seeded(), kv_heads=2).attended(Flex())


def test_the_picture_of_a_recipe_is_the_mask_that_is_run() -> None:
    """Change one group's input: exactly the groups that need it change their hidden states."""
    recipe: Recipe = tiny_recipe()
    policy = build(recipe, ROBOT, seed=1)
    policy.enter(recipe.phase("full"))
    layout = policy.net.layout
    names = frozenset(layout.groups)
    prepared = policy.prepare(nano_batch(recipe), names, seeded())
    with torch.no_grad():
        before = policy.net(policy.inputs(prepared, names, {}), {})
        for changed in sorted(names - {"text"}):
            latents = dict(prepared.latents)
            latents[changed] = replace(latents[changed], values=latents[changed].values + 1.0)
            after = policy.net(policy.inputs(replace(prepared, latents=latents), names, {}), {})
            moved = {name for name in names if not torch.equal(after[name].hidden, before[name].hidden)}
            assert moved == {name for name in names if changed in layout.needed([name])}


def test_heads_that_ask_the_same_keys_at_once_answer_as_one_by_one() -> None:
    q, k, v = (torch.randn(2, num, heads, 8, requires_grad=True) for num, heads in ((5, 4), (7, 1), (7, 1)))
    found = [attend.one(q, k, v, None) for attend in (Sdpa(), Dense())]
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
    ours, theirs = (torch.autograd.grad(one.square().sum(), (q, k, v)) for one in found)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
