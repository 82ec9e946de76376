"""Play-LMP and HULC: a plan that is drawn without the future, held, and drawn anew; goals in pictures or words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from every_recipe import close, policy_of, prepared_batch, seeded
from nano_batch import ROBOT, nano_batch
from torch import Tensor

from crossroads.build import build
from crossroads.codecs.percepts import GoalPerceptCodec
from crossroads.codecs.sentence import PooledSentences, encoded
from crossroads.errors import InputError
from crossroads.interpreter import Interpreter
from crossroads.pilot.plan import fit
from crossroads.policy import Memory, StreamPolicy
from crossroads.recipes.catalogue import RECIPES
from crossroads.recipes.hulc import hulc
from crossroads.recipes.play_lmp import play_lmp
from crossroads.types import Observation

both = pytest.mark.parametrize("name", ["play_lmp", "hulc"])
STEPS = 4


def lived(policy: StreamPolicy, num: int) -> list[Observation]:
    """``num`` moments as far apart as steps, under one instruction, without a picture of a goal."""
    batch = nano_batch(policy.recipe)
    frames, first = batch.future["front"], batch.obs.images["front"]
    shown = [first, *(frames[:, index % frames.shape[1]] for index in range(num - 1))]
    return [
        replace(
            batch.obs,
            images={"front": picture},
            state=batch.obs.state + 0.1 * index,
            passed={"front": picture[:, None]} if index else {},
        )
        for index, picture in enumerate(shown)
    ]


def acted(policy: StreamPolicy, moments: list[Observation]) -> list[tuple[Tensor, Memory]]:
    """What is done at each moment and remembered then."""
    memory, generator, found = policy.start(2), seeded(), []
    for obs in moments:
        chunk, memory = policy.act(obs, memory, generator=generator)
        found.append((chunk.values, memory))
    return found


@both
def test_a_plan_is_held_for_as_many_steps_as_a_window_has_and_then_drawn_anew(name: str) -> None:
    policy = policy_of(name)
    plans = [memory.held["plan"] for _, memory in acted(policy, lived(policy, STEPS + 2))]
    assert all(torch.equal(plan, plans[0]) for plan in plans[:STEPS])
    assert not torch.equal(plans[STEPS], plans[0])
    assert torch.equal(plans[STEPS + 1], plans[STEPS])
    assert policy.passed_s == (0.6,)
    assert policy.recipe.chunk.num_actions == 12


@both
def test_other_words_and_another_episode_draw_anew(name: str) -> None:
    policy = policy_of(name)
    moments = lived(policy, 3)
    told = replace(moments[2], text=("close the drawer", "close the drawer"))
    kept, other = (acted(policy, [*moments[:2], last])[-1][1] for last in (moments[2], told))
    assert len(kept.seen) == 3
    assert len(other.seen) == 1, "what was seen under other words is forgotten"
    assert not torch.equal(kept.held["plan"], other.held["plan"])
    again = acted(policy, [*moments[:2], replace(moments[2], passed={})])[-1][1]
    assert len(again.seen) == 1
    assert not torch.equal(kept.held["plan"], again.held["plan"])


def test_each_robot_keeps_its_own_plan_when_others_are_done() -> None:
    policy = policy_of("play_lmp")
    moments = lived(policy, 3)
    memory = acted(policy, moments[:2])[-1][1]
    rows = torch.tensor([1])
    _, alone = policy.act(moments[2].rows(rows), memory.rows(rows), generator=seeded())
    assert torch.equal(alone.held["plan"], memory.held["plan"][1:])
    assert len(alone.seen) == 3


@both
def test_the_actions_of_a_step_do_not_depend_on_later_ones_nor_its_plan_on_any_but_the_first(name: str) -> None:
    """Exactly: no gradient of what is told of an action, or by the prior, reaches what is seen after it."""
    policy = policy_of(name)
    prepared = prepared_batch(policy)
    seen = prepared.latents["seen"]
    values = seen.values.clone().requires_grad_()
    prepared = replace(prepared, latents={**prepared.latents, "seen": replace(seen, values=values)})
    needed = frozenset({"seen", "aim", "goal", "proposed", "plan", "action"})  # as when acting: no posterior
    states = policy.net(policy.inputs(prepared, needed, {}), {})
    told = policy.net.codec("proposed").read(states["proposed"].hidden)
    (slope,) = torch.autograd.grad(told.sum(), values, retain_graph=True)
    assert not slope[:, 1:].any()
    assert slope[:, 0].any()
    (slope,) = torch.autograd.grad(policy.net.codec("action").read(states["action"].hidden)[:, 24:36].sum(), values)
    assert not slope[:, 3:].any()
    assert slope[:, 2].any()


@torch.no_grad()
def test_a_posterior_reads_the_whole_window() -> None:
    for name in ("play_lmp", "hulc"):
        policy = policy_of(name)
        prepared = prepared_batch(policy)
        seen = prepared.latents["seen"]
        moved = seen.values.clone()
        moved[:, -1] += 0.5
        found = []
        for values in (seen.values, moved):
            latents = {**prepared.latents, "seen": replace(seen, values=values)}
            whole = replace(prepared, latents=latents)
            found.append(policy.net(policy.inputs(whole, frozenset({"seen", "recognised"}), {}), {})["recognised"])
        assert not torch.equal(found[0].hidden, found[1].hidden)


@both
@torch.no_grad()
def test_going_through_the_steps_again_is_keeping_the_decoders_state(name: str) -> None:
    """What is told of the action at each step while acting is what one pass over all steps tells, on the same plan."""
    policy = policy_of(name)
    moments = lived(policy, 4)
    plan = acted(policy, moments[:1])[0][1].held["plan"]
    told = []
    for num in range(1, 5):
        obs = replace(moments[num - 1], before=tuple(moments[: num - 1]))
        run = Interpreter(policy.net, obs, seeded(), known={"plan": plan})
        run.run(policy.recipe.stage.schedule[:1])
        run._prepare("action")
        run.levels["action"] = 0.0
        states = policy.net({"action": run._input("action")}, {**run.states, **missing(run)})
        told.append(policy.net.codec("action").read(states["action"].hidden))
    for step in range(4):
        now = slice(12 * step, 12 * (step + 1))
        close(told[step][:, now], told[3][:, now])


def missing(run: Interpreter) -> dict:
    run._run_missing(frozenset({"seen", "aim", "goal", "plan"}))
    return run.states


def test_a_goal_is_the_picture_where_one_is_given_and_the_words_else() -> None:
    policy = policy_of("play_lmp")
    obs = lived(policy, 1)[0]
    last = obs.images["front"].flip(0)
    pictured = replace(obs, images={**obs.images, "front+1.8s": last})
    words = ("close the drawer", "press the blue button")

    def goal(seen: Observation) -> Tensor:
        run = Interpreter(policy.net, seen, seeded())
        with torch.no_grad():
            run._run_missing(frozenset({"aim", "goal"}))
        return run.states["goal"].taps[0]

    assert torch.equal(goal(pictured), goal(pictured.told(words)))
    assert not torch.equal(goal(obs), goal(obs.told(words)))
    assert not torch.equal(goal(pictured), goal(obs))
    other = replace(pictured, images={**pictured.images, "front+1.8s": obs.images["front"]})
    assert not torch.equal(goal(pictured), goal(other))


@pytest.mark.parametrize(("num", "expected"), [(8, {4}), (3, {1, 2}), (1, {0, 1})])
def test_half_of_every_batch_has_a_picture_for_its_goal(num: int, expected: set[int]) -> None:
    policy = policy_of("play_lmp")
    codec = policy.net.codec("aim")
    assert isinstance(codec, GoalPerceptCodec)
    latent = codec.observe(nano_batch(policy.recipe, size=num).obs)
    assert bool(latent.valid.all())
    assert {int(codec.masked(latent, seeded(seed)).valid.sum()) for seed in range(20)} == expected


def test_a_phase_that_leaves_a_plan_out_is_refused() -> None:
    """What nothing trains may be kept from an earlier step, and a plan moves with its posterior."""
    recipe = play_lmp()
    trains = tuple(name for name in recipe.phases[0].trains if name != "plan")
    with pytest.raises(InputError, match="of the plan beside 'recognition'"):
        recipe.vary({"phases.full.trains": trains})


def test_a_law_that_is_not_the_codecs_is_refused() -> None:
    with pytest.raises(InputError, match="of its law"):
        hulc().vary({"stage.streams.action.objective.law.bins": 11})


def test_sentences_are_the_mean_of_what_a_language_model_says_of_their_tokens(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "push", "the", "cube"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path)
    found = encoded(PooledSentences(source=str(tmp_path), width=8), "push the cube")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path)("push the cube").input_ids
    assert len(ids) == 5
    with torch.no_grad():
        states = model(torch.tensor([ids])).last_hidden_state[0]
    close(found, states.mean(dim=0))


@both
def test_a_robot_of_other_sizes_is_perceived_and_acts(name: str) -> None:
    """What is perceived is as wide as the robot's state asks; everything that reads it goes with that."""
    space = replace(ROBOT, state_names=tuple(f"joint {index}" for index in range(9)), control_hz=20.0)
    recipe = fit(RECIPES[name](), space, ("left", "right"))
    policy = build(recipe, space, seed=0)
    batch = nano_batch(recipe)
    assert set(batch.future) == {"left"}
    assert policy.loss(batch, generator=seeded()).total.isfinite().all()
    chunk, _ = policy.act(batch.obs, policy.start(2), generator=seeded())
    assert chunk.values.shape == (2, 12, 4)
