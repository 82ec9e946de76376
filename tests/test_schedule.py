"""The interpreter: what each leg leaves behind, and that what was cached before something moved is not read after."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from every_recipe import hasty, policy_of
from nano_batch import ROBOT, nano_batch
from tiny_stage import ACTION, ANSWER, EXPERT, LANGUAGE, NEXT_TOKEN, STATE, TEXT, tiny_edges, tiny_recipe
from torch import Tensor

from crossroads import net as net_module
from crossroads.build import build
from crossroads.codecs.spec import Latent
from crossroads.codecs.text import END, START
from crossroads.interpreter import Interpreter
from crossroads.layout import Layout
from crossroads.net import Steps
from crossroads.noise import grid, unipc, wan_grid
from crossroads.objectives import Flow
from crossroads.policy import StreamPolicy
from crossroads.recipe import Axes, Recipe
from crossroads.schedule import Commit, Decode, Denoise, Leg, Rank, Read, moved
from crossroads.solvers import Euler, Skipping, UniPC
from crossroads.stage import Phase, Stage, Tower
from crossroads.streams import NOISED, Edge, Stream, reads


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def staged(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, stage=replace(recipe.stage, **changes))  # pyright: ignore[reportArgumentType]


def written_recipe() -> Recipe:
    """The actions read an answer that is written first, as pi0.5 reads its subtask."""
    streams = (
        Stream(name="text", carries="text", codec=TEXT, tower="language"),
        Stream(
            name="answer",
            carries="text",
            codec=ANSWER,
            tower="language",
            views=(NOISED,),
            objective=NEXT_TOKEN,
            shares="text",
        ),
        Stream(name="action", carries="action", codec=ACTION, tower="expert", views=(NOISED,), objective=Flow()),
    )
    edges = (
        *reads("text", "text"),
        *reads("answer", "text"),
        Edge(dst="answer", src="answer", when="causal"),
        *reads("action", "text", "answer", "action"),
    )
    geometry = replace(EXPERT, heads=2, head_dim=6, context_width=0)
    return Recipe(
        name="written",
        paper="none",
        stage=Stage(
            name="policy",
            streams=streams,
            edges=edges,
            towers=(Tower(name="language", spec=replace(LANGUAGE, kv_heads=2)), Tower(name="expert", spec=geometry)),
            schedule=(Decode(stream="answer", max_tokens=6), Denoise(streams=("action",), solver=Euler(steps=2))),
            sequence=("text", "answer", "action"),
        ),
        phases=(Phase(name="full", trains=("language", "expert"), losses=("answer", "action")),),
        axes=Axes(paradigm="no_future", architecture="mixture_of_transformers", integration="tokens"),
    )


def run(policy: StreamPolicy, legs: tuple[Leg, ...], *, caching: bool = True) -> Interpreter:
    interpreter = Interpreter(policy.net, nano_batch(policy.recipe).obs, seeded(), caching=caching)
    with torch.no_grad():
        interpreter.settled = interpreter.run(legs)  # pyright: ignore[reportAttributeAccessIssue]
    return interpreter


def test_a_leg_names_the_streams_it_settles() -> None:
    legs = (
        Denoise(streams=("a", "b"), solver=Euler(steps=1)),
        Decode(stream="c", max_tokens=1),
        Read(groups=("d",)),
        Commit(stream="a"),
    )
    assert [moved(leg) for leg in legs] == [("a", "b"), ("c",), (), ()]


def test_denoising_takes_euler_steps_down_the_grid() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    leg = Denoise(streams=("action",), solver=Euler(steps=3, factor=5.0))
    seen: list[float] = []
    answer = policy.net.codec("action").read

    def constant(hidden: Tensor) -> Tensor:
        return torch.ones_like(answer(hidden))

    class Watched(Interpreter):
        def _input(self, name: str, steps: Steps | None = None):
            if name == "action":
                seen.append(self.levels[name])
            return super()._input(name, steps)

    policy.net.codec("action").read = constant  # pyright: ignore[reportAttributeAccessIssue]
    interpreter = Watched(policy.net, nano_batch(policy.recipe).obs, seeded())
    with torch.no_grad():
        moved_to = interpreter.run((leg,)).streams["action"]
    assert seen == grid(3, factor=5.0).tolist()[:-1]
    noise = torch.randn(moved_to.shape, generator=seeded())
    torch.testing.assert_close(moved_to, noise - 1.0)  # velocity 1 over one unit of level
    assert interpreter.levels["action"] == 0.0


def test_two_half_legs_are_one_leg() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    whole = (Denoise(streams=("action",), solver=Euler(steps=4)),)
    halves = (
        Denoise(streams=("action",), solver=Euler(steps=2, stop=0.5)),
        Denoise(streams=("action",), solver=Euler(steps=2, start=0.5)),
    )
    obs = nano_batch(policy.recipe).obs
    with torch.no_grad():
        found = [Interpreter(policy.net, obs, seeded()).run(legs).streams["action"] for legs in (whole, halves)]
    torch.testing.assert_close(found[0], found[1])


def test_a_stream_that_stops_early_ends_on_its_path_and_is_told_its_own_levels() -> None:
    policy = policy_of("fast_wam_joint")
    joint = policy.recipe.stage.schedule[-1]
    assert isinstance(joint, Denoise)
    leg = replace(joint, solver=Euler(steps=3, factor=5.0), ends=(("video", 0.8),))
    obs = nano_batch(policy.recipe).obs
    told: dict[str, list[float]] = {"video": [], "action": []}
    starts: list[Tensor] = []

    class Watched(Interpreter):
        def _input(self, name: str, steps: Steps | None = None):
            if name in told:
                told[name].append(self.levels[name])
            if name == "video":
                starts.append(self.latents[name].values)
            return super()._input(name, steps)

    clean = torch.randn(2, *policy.net.codec("video").latent_shape("noised"))
    interpreter = Watched(policy.net, obs, seeded(), known={"video": clean})
    with torch.no_grad():
        found = interpreter.run((leg,)).streams
    levels = grid(3, factor=5.0)
    torch.testing.assert_close(torch.tensor(told["action"]), levels[:-1], rtol=0, atol=0)
    torch.testing.assert_close(torch.tensor(told["video"]), 0.8 + 0.2 * levels[:-1])
    assert (interpreter.levels["video"], interpreter.levels["action"]) == (0.8, 0.0)
    torch.testing.assert_close(found["video"], 0.2 * clean + 0.8 * starts[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 16])
def test_stopping_early_visits_the_published_levels_and_ends_where_the_published_solver_does(steps: int) -> None:
    """DreamZero squeezes the solver's levels (``decouple_inference_noise``) and corrects by those; we correct by the
    solver's own. Where clean values are normal with a deviation of 1/2; at one step there is nothing to correct."""
    leg = Denoise(streams=("video", "action"), solver=UniPC(steps=steps, factor=5.0), ends=(("video", 0.8),))
    levels = wan_grid(steps, 5.0)
    top = levels[0]
    squeezed = levels * (top - 0.8) / top + 0.8
    own = torch.tensor([leg.level("video", level) for level in levels.tolist()], dtype=torch.float64)
    torch.testing.assert_close(own, squeezed, rtol=0, atol=1e-12)
    assert [leg.level("action", level) for level in levels.tolist()] == levels.tolist()

    def velocity(x: Tensor, level: float) -> Tensor:
        variance = (1 - level) ** 2 / 4 + level**2
        return x * (1 - (1 - level) / 4 / variance) / level

    def clean(x: Tensor, step: int) -> Tensor:
        return x - squeezed[step] * velocity(x, squeezed[step].item())

    noise = torch.randn(1, 9, dtype=torch.float64)
    ours = leg.solver.solve(noise, lambda x, level: leg.pace("video") * velocity(x, leg.level("video", level)))
    torch.testing.assert_close(ours, unipc(noise, squeezed, clean)[-1], rtol=1e-12 if steps == 1 else 5e-4, atol=1e-12)


@torch.no_grad()
def test_a_stream_that_stops_early_beside_others_takes_the_steps_that_it_takes_alone() -> None:
    """The future of Fast-WAM's joint form does not read its actions, so it does not notice them."""
    policy = policy_of("fast_wam_joint")
    joint = policy.recipe.stage.schedule[-1]
    assert isinstance(joint, Denoise)
    beside = replace(joint, solver=Euler(steps=4, factor=5.0), ends=(("video", 0.8),))
    alone = replace(joint, streams=("video",), solver=Euler(steps=4, factor=5.0, stop=0.8))
    found = []
    for leg in (beside, alone):
        interpreter = Interpreter(policy.net, nano_batch(policy.recipe).obs, seeded())
        for name in ("action", "video"):
            interpreter._prepare(name)  # the same draws of noise
        found.append(interpreter.run((leg,)).streams["video"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_a_skipped_step_runs_no_network() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    leg = Denoise(streams=("action",), solver=Euler(steps=5), skipping=Skipping(evaluated=(0, 3)))
    passes = []
    handle = policy.net.register_forward_pre_hook(lambda _, inputs: passes.append(sorted(inputs[0])))
    run(policy, (leg,))
    handle.remove()
    assert [names for names in passes if "action" in names] == [["action"]] * leg.evaluations
    assert leg.evaluations == 2


def test_read_keeps_what_it_ran_and_commit_holds_the_value_as_observed() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    act = Denoise(streams=("action",), solver=Euler(steps=2))
    interpreter = run(policy, (Read(groups=("text",)), act, Commit(stream="action"), Read(groups=("action.clean",))))
    assert {"text", "action.clean"} <= set(interpreter.states)
    assert interpreter.levels["action.clean"] == 0.0
    assert torch.equal(interpreter.latents["action.clean"].values, interpreter.latents["action"].values)


def test_a_second_commit_replaces_what_was_read_of_the_first_and_all_that_read_it() -> None:
    """The clean view moves, so the state of its reader is stale even in a leg that does not need the reader."""
    edges = (*tiny_edges(), *reads("state", "action.clean"))
    edges = tuple(edge for edge in edges if (edge.dst, edge.src) != ("action", "state"))
    policy = build(tiny_recipe(edges), ROBOT, seed=0)
    act, hold, read = (
        Denoise(streams=("action",), solver=Euler(steps=2)),
        Commit(stream="action"),
        Read(groups=("state",)),
    )
    legs = (act, hold, read, act, hold, read)
    cached, full = run(policy, legs), run(policy, legs, caching=False)
    full.states.clear()
    with torch.no_grad():
        full._run_missing(policy.net.layout.needed(["state"]))
    torch.testing.assert_close(cached.states["state"].hidden, full.states["state"].hidden)


def test_a_reader_that_a_leg_does_not_need_is_not_stale_in_the_next() -> None:
    """``state`` reads the actions; it is cached at their noise, they move without it, then it is read again."""
    edges = tuple(edge for edge in tiny_edges() if (edge.dst, edge.src) != ("action", "state"))
    policy = build(tiny_recipe((*edges, *reads("state", "action"))), ROBOT, seed=0)
    read = Read(groups=("state",))
    interpreter = run(policy, (read, Denoise(streams=("action",), solver=Euler(steps=2)), read))
    with torch.no_grad():
        fresh = policy.net({name: interpreter._input(name) for name in ("text", "state", "action")}, {})
    torch.testing.assert_close(interpreter.states["state"].hidden, fresh["state"].hidden)


def test_what_was_written_is_read_as_training_shows_it() -> None:
    """Later legs read the start token, then the words, but for the last; nothing after the end mark is valid."""
    policy = build(written_recipe(), ROBOT, seed=4)
    interpreter = run(policy, policy.recipe.stage.schedule)
    read, written = interpreter.latents["answer"], interpreter.written["answer"]
    assert read.values[:, 0].tolist() == [START, START]
    assert torch.equal(read.values[:, 1:], written[:, : read.values.shape[1] - 1])
    assert torch.equal(read.valid, (read.values[:, :] == END).cumsum(dim=1) == 0)
    full = run(policy, policy.recipe.stage.schedule, caching=False)
    torch.testing.assert_close(full.latents["action"].values, interpreter.latents["action"].values)


def test_a_sample_that_ended_writes_end_marks_and_its_neighbour_changes_nothing() -> None:
    policy = build(written_recipe(), ROBOT, seed=0)
    codec = policy.net.codec("answer")
    obs = nano_batch(policy.recipe).obs
    asked = 0

    def scripted(hidden: Tensor) -> Tensor:
        """Sample 0 ends at its second token, sample 1 never does."""
        nonlocal asked
        asked += 1
        scores = torch.zeros(len(hidden), 1, codec.spec.vocabulary.size)  # pyright: ignore
        scores[:, :, 10] = 1.0
        scores[0, :, END] = 2.0 if asked == 2 else 0.0
        return scores

    codec.read = scripted  # pyright: ignore[reportAttributeAccessIssue]
    interpreter = Interpreter(policy.net, obs, seeded())
    with torch.no_grad():
        settled = interpreter.run((Decode(stream="answer", max_tokens=4),))
    assert settled.streams["answer"].tolist() == [[10, END, END, END], [10, 10, 10, 10]]
    assert interpreter.latents["answer"].valid.tolist() == [[True, True, False, False], [True] * 4]
    assert asked == 4


def test_the_observed_latents_are_handed_back_for_decoding() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    settled = policy.settle(nano_batch(policy.recipe).obs, generator=seeded())
    assert set(settled.observed) == {"text", "state"}
    assert all(isinstance(latent, Latent) for latent in settled.observed.values())
    assert STATE.num_tokens("now") == settled.observed["state"].values.shape[1]


def test_a_leg_from_noise_begins_anew_and_one_from_a_level_goes_on() -> None:
    policy = build(tiny_recipe(), ROBOT, seed=0)
    again = Denoise(streams=("action",), solver=Euler(steps=1))
    still = Denoise(streams=("action",), solver=Euler(steps=1, start=1e-9))
    first, second, third = (
        run(policy, legs).latents["action"].values for legs in ((again,), (again, again), (again, still))
    )
    assert not torch.allclose(first, second, atol=1e-3)
    torch.testing.assert_close(third, first, rtol=0, atol=1e-6)


class Valued(Interpreter):
    """An interpreter that keeps what the branches were worth and what they would have done."""

    seen: list[tuple[Tensor, Tensor]]

    def _rank(self, leg: Rank) -> None:
        worth = self.net.own_codec("value").decode(self.latents["value"].values)  # pyright: ignore
        self.seen.append((worth, self.latents["action"].values))
        super()._rank(leg)


@torch.no_grad()
def test_the_candidate_whose_futures_are_worth_most_is_what_is_done() -> None:
    """Two candidates of two futures of two values each; the better mean wins, sample by sample."""
    policy = hasty("cosmos_policy_planning")
    obs = nano_batch(policy.recipe, size=3).obs
    interpreter = Valued(policy.net, obs, seeded())
    interpreter.seen = []
    chosen = interpreter.run(policy.recipe.stage.schedule)
    ((worth, actions),) = interpreter.seen
    assert worth.shape == (3 * 8,)
    mean = worth.reshape(3, 2, 4).mean(dim=2)
    candidates = actions.reshape(3, 2, 4, *actions.shape[1:])
    assert torch.equal(candidates[:, :, 0], candidates[:, :, 3])  # an action is one through all its futures
    assert not torch.equal(candidates[:, 0], candidates[:, 1])
    best = candidates[torch.arange(3), mean.argmax(dim=1), 0]
    assert torch.equal(chosen.streams["action"], best)
    assert interpreter.obs.text == obs.text


class Spoilt(Valued):
    """One whose best future's value is no number."""

    def _rank(self, leg: Rank) -> None:
        mean = self.net.own_codec("value").decode(self.latents["value"].values).reshape(3, 2, 4).mean(dim=2)  # pyright: ignore
        best = mean.argmax(dim=1) * 4 + torch.arange(3) * 8
        self.latents["value"].values[best] = float("nan")
        super()._rank(leg)


@torch.no_grad()
def test_a_future_worth_no_number_is_never_chosen() -> None:
    policy = hasty("cosmos_policy_planning")
    obs = nano_batch(policy.recipe, size=3).obs
    sound, spoilt = Valued(policy.net, obs, seeded()), Spoilt(policy.net, obs, seeded())
    sound.seen, spoilt.seen = [], []
    legs = policy.recipe.stage.schedule
    chosen, other = sound.run(legs).streams["action"], spoilt.run(legs).streams["action"]
    candidates = sound.seen[0][1].reshape(3, 2, 4, *chosen.shape[1:])[:, :, 0]
    for row in range(3):
        assert torch.equal(torch.stack((chosen[row], other[row])).sort(dim=0)[0], candidates[row].sort(dim=0)[0])


class Afresh(Interpreter):
    """An interpreter whose steps keep nothing for each other."""

    def _velocities(self, running: list[str], moving: list[str], steps: Steps) -> dict[str, Tensor]:
        return super()._velocities(running, moving, Steps())


DENOISING = pytest.mark.parametrize("name", ["pi0", "smolvla", "pi05", "groot_n15", "dreamzero", "mimic_video"])


@DENOISING
def test_what_the_steps_of_a_leg_keep_for_each_other_changes_nothing(name: str) -> None:
    """Neither places and masks, nor the rotations, nor keys that SmolVLA's expert has mapped, nor guidance."""
    policy = policy_of(name)
    obs, legs = nano_batch(policy.recipe).obs, policy.recipe.stage.schedule
    assert max(leg.evaluations for leg in legs if isinstance(leg, Denoise)) > 1
    with torch.no_grad():
        kept, afresh = (kind(policy.net, obs, seeded()).run(legs).streams for kind in (Interpreter, Afresh))
    assert all(torch.equal(kept[stream], afresh[stream]) for stream in afresh)


@DENOISING
def test_a_last_layer_whose_answer_nobody_reads_may_be_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(name)
    obs, legs = nano_batch(policy.recipe).obs, policy.recipe.stage.schedule

    def acted() -> tuple[dict[str, Tensor], Interpreter]:
        run = Interpreter(policy.net, obs, seeded())
        with torch.no_grad():
            return dict(run.run(legs).streams), run

    spared, run = acted()
    monkeypatch.setattr(Layout, "silent", lambda layout, names: frozenset())
    whole, _ = acted()
    assert all(torch.equal(spared[stream], whole[stream]) for stream in whole)
    unread = {other for other, state in run.states.items() if not state.hidden.shape[1]}
    assert unread == {"pi0": {"image", "text", "state"}, "smolvla": {"image", "text", "state"}}.get(name, unread)
    read_across = {edge.src for edge in policy.recipe.stage.edges if edge.via != "joint"}
    assert not unread & read_across


def test_turned_weights_are_the_same_weights_and_act_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_module, "MOST_TURNED", 64 * 64)
    policy, obs = policy_of("pi0"), nano_batch(policy_of("pi0").recipe).obs
    turned = copy.deepcopy(policy)
    turned.net.turn_weights()
    ours, theirs = policy.net.state_dict(), turned.net.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    lying = {name: weight.is_contiguous() for name, weight in theirs.items() if name.endswith("weight")}
    assert not all(lying.values())
    assert any(lying[name] for name, weight in theirs.items() if name in lying and weight.numel() > 64 * 64)
    chunks = [one.act(obs, one.start(2), generator=seeded())[0].values for one in (policy, turned)]
    torch.testing.assert_close(*chunks, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["pi0", "xvla", "vla_foundry", "dreamzero"])
def test_what_is_settled_may_be_trained_on(name: str) -> None:
    policy = policy_of(name)
    settled = policy.settle(nano_batch(policy.recipe).obs, generator=seeded())
    assert settled.streams
    for value in settled.streams.values():
        assert not value.is_inference()
        weight = torch.ones((), requires_grad=True)
        (weight * value).sum().backward()
        assert weight.grad is not None
