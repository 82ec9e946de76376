"""Recipes: each refusal with its message, variants by path, and the diff that a matched comparison prints."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from tiny_stage import EXPERT, LANGUAGE, TEXT, VOCABULARY, counted, tiny_edges, tiny_recipe, tiny_streams

from crossroads.codecs.text import TextTokens
from crossroads.errors import InputError
from crossroads.objectives import Flow
from crossroads.recipe import Recipe, diff
from crossroads.recipes.catalogue import RECIPES, recipe
from crossroads.recipes.cosmos_policy import cosmos_policy, cosmos_policy_planning
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.nano_vlm import nano_vlm
from crossroads.recipes.pi0 import pi0
from crossroads.schedule import Branch, Commit, Decode, Denoise, Predict, Rank, Read
from crossroads.solvers import Euler, Skipping, SkippingWhileAlike
from crossroads.stage import Phase, Tower
from crossroads.streams import NOW, Clock, Edge, Stream, View, reads


def staged(recipe: Recipe, **changes: object) -> Recipe:
    return replace(recipe, stage=replace(recipe.stage, **changes))  # pyright: ignore[reportArgumentType]


def streamed(name: str, **changes: object) -> Recipe:
    """The tiny recipe with one stream changed."""
    streams = tuple(replace(s, **changes) if s.name == name else s for s in tiny_streams())  # pyright: ignore
    return staged(tiny_recipe(), streams=streams)


def edged(*extra: Edge) -> Recipe:
    return staged(tiny_recipe(), edges=(*tiny_edges(), *extra))


def phased(trains: tuple[str, ...], losses: tuple[str, ...]) -> Recipe:
    return replace(tiny_recipe(), phases=(Phase(name="full", trains=trains, losses=losses),))


ACT = Denoise(streams=("action",), solver=Euler(steps=2))
REFUSED: dict[str, tuple[Callable[[], Recipe], str]] = {
    "unknown tower": (lambda: streamed("state", tower="expret"), "Did you mean 'expert'"),
    "idle tower": (
        lambda: staged(tiny_recipe(), towers=(*tiny_recipe().stage.towers, Tower(name="spare", spec=EXPERT))),
        "idle .'spare'.",
    ),
    "tower twice": (
        lambda: staged(tiny_recipe(), towers=(*tiny_recipe().stage.towers, Tower(name="words", spec=EXPERT))),
        "every name once",
    ),
    "unknown share": (lambda: streamed("text", shares="txt"), "a stream with weights to share"),
    "shared widths": (
        lambda: staged(
            tiny_recipe(),
            streams=(*tiny_streams(), Stream(name="goal", carries="text", codec=TEXT, tower="expert", shares="text")),
        ),
        "towers of one width",
    ),
    "unknown in sequence": (lambda: staged(tiny_recipe(), sequence=("txt",)), "Did you mean 'text'"),
    "unknown in clock": (
        lambda: staged(tiny_recipe(), clock=Clock(tokens_per_block=(("actions", 2),))),
        "Did you mean 'action'",
    ),
    "view the codec lacks": (lambda: streamed("state", views=(View(kind="clean"),)), r"one of \('now',\)"),
    "view twice": (lambda: streamed("state", views=(NOW, NOW)), "each once"),
    "noised share of a noised view": (
        lambda: streamed("action", views=(View(kind="noised", noised_share=0.5), View(kind="clean"))),
        "a clean view of a Flow stream",
    ),
    "noised without objective": (lambda: streamed("action", objective=None), "a noised view and no objective"),
    "observed stream with objective": (lambda: streamed("state", objective=Flow()), "an objective and no noised view"),
    "unequal softmax": (
        lambda: staged(
            tiny_recipe(),
            edges=(*(e for e in tiny_edges() if e.via == "joint"), *reads("action", "text")),
        ),
        "equal depth and head geometry",
    ),
    "value edge inside a stage": (lambda: edged(Edge(dst="action", src="text", via="value")), "only between stages"),
    "layers beyond the tower": (lambda: staged(tiny_recipe(), edges=tiny_edges(layers=(3,))), "some of 0 to 2"),
    "no layers": (lambda: staged(tiny_recipe(), edges=tiny_edges(layers=())), "some of 0 to 2"),
    "tap beyond the tower": (lambda: staged(tiny_recipe(), edges=tiny_edges(tap=2)), "one of 0 to 1"),
    "tap on a joint edge": (lambda: edged(Edge(dst="action", src="action.clean", tap=0)), "0 on a joint edge"),
    "cross edge with a relation": (
        lambda: staged(
            tiny_recipe(), edges=tuple(replace(e, when="upto") if e.via == "cross" else e for e in tiny_edges())
        ),
        "a cross edge that sees all",
    ),
    "cross edge of one group alone": (
        lambda: staged(tiny_recipe(), edges=tuple(e for e in tiny_edges() if (e.dst, e.via) != ("state", "cross"))),
        "the same edge from every group of tower 'expert'",
    ),
    "cross edge into a tower without": (
        lambda: staged(
            tiny_recipe(),
            towers=(tiny_recipe().stage.towers[0], Tower(name="expert", spec=replace(EXPERT, context_width=0))),
        ),
        "a tower that takes cross edges",
    ),
    "modulated Gemma": (
        lambda: staged(
            tiny_recipe(),
            towers=(tiny_recipe().stage.towers[0], Tower(name="expert", spec=LANGUAGE)),
            edges=tuple(replace(e, via="modulate") if e.via == "cross" else e for e in tiny_edges()),
        ),
        "a tower that takes modulate edges",
    ),
    "context of another width": (
        lambda: staged(
            tiny_recipe(),
            towers=(tiny_recipe().stage.towers[0], Tower(name="expert", spec=replace(EXPERT, context_width=9))),
        ),
        "context_width 8",
    ),
    "a cut with a way round": (
        lambda: staged(
            pi0(),
            edges=tuple(
                replace(e, grad=False) if (e.dst, e.src) == ("action", "image") else e for e in pi0().stage.edges
            ),
        ),
        "every path between the two cut",
    ),
    "empty schedule": (lambda: staged(tiny_recipe(), schedule=()), "at least one leg"),
    "unknown stream in a leg": (
        lambda: staged(tiny_recipe(), schedule=(replace(ACT, streams=("acton",)),)),
        "'action'",
    ),
    "leg of an observed stream": (
        lambda: staged(tiny_recipe(), schedule=(Denoise(streams=("state",), solver=Euler(steps=1)),)),
        "a stream with a Flow objective, got NoneType",
    ),
    "predicting a flow": (
        lambda: staged(tiny_recipe(), schedule=(Predict(streams=("action",)),)),
        "a stream with a Regress or Likelihood objective, got Flow",
    ),
    "skipping the first step": (
        lambda: staged(tiny_recipe(), schedule=(replace(ACT, skipping=Skipping(evaluated=(1,))),)),
        "steps from 0 on, in order, each once and below 2",
    ),
    "a step that is not there": (
        lambda: staged(tiny_recipe(), schedule=(replace(ACT, skipping=Skipping(evaluated=(0, 2))),)),
        r"below 2, got \(0, 2\)",
    ),
    "the loosest rule first": (
        lambda: staged(
            tiny_recipe(), schedule=(replace(ACT, skipping=SkippingWhileAlike(rules=((0.93, 2), (0.95, 4)))),)
        ),
        "cosines from the strictest on",
    ),
    "stopping what does not move": (
        lambda: staged(fast_wam(), schedule=(replace(ACT, ends=(("vidoe", 0.8),)),)),
        "streams that the leg moves, each once, got 'vidoe'",
    ),
    "stopping after the end": (
        lambda: fast_wam_joint().vary({"stage.schedule.0.ends": (("video", 1.0),)}),
        "a level between 0 and 1, got 1",
    ),
    "executing noise": (
        lambda: staged(tiny_recipe(), schedule=(replace(ACT, ends=(("action", 0.5),)),)),
        "no stream of actions",
    ),
    "committing too early": (
        lambda: staged(tiny_recipe(), schedule=(Commit(stream="action"), ACT)),
        "a settled stream",
    ),
    "committing without a clean view": (
        lambda: staged(
            fast_wam(), schedule=(Denoise(streams=("video",), solver=Euler(steps=1)), Commit(stream="video"))
        ),
        "a settled stream with a clean view",
    ),
    "clean view read uncommitted": (
        lambda: staged(fast_wam_idm(), schedule=fast_wam_idm().stage.schedule[::2]),
        r"Commit\(video\) before video.clean is read",
    ),
    "text read unwritten": (
        lambda: staged(nano_vlm(), schedule=(Read(groups=("answer",)),)),
        r"Decode\(answer\) before answer is read",
    ),
    "reading an unknown group": (
        lambda: staged(tiny_recipe(), schedule=(Read(groups=("txt",)), ACT)),
        "Did you mean 'text'",
    ),
    "decoding actions": (
        lambda: staged(tiny_recipe(), schedule=(Decode(stream="action", max_tokens=3),)),
        "a stream with a TokenCE objective",
    ),
    "branches that are never ranked": (
        lambda: staged(cosmos_policy(), schedule=(Branch(num=2), *cosmos_policy().stage.schedule)),
        "a Rank after Branch",
    ),
    "one branch": (
        lambda: staged(cosmos_policy_planning(), schedule=(Branch(num=1), *cosmos_policy_planning().stage.schedule)),
        "2 or more branches",
    ),
    "ranking without branches": (
        lambda: staged(cosmos_policy(), schedule=(*cosmos_policy().stage.schedule, Rank(stream="value"))),
        "a Branch, then a settled stream of values",
    ),
    "ranking by what is no value": (
        lambda: staged(
            cosmos_policy(), schedule=(Branch(num=2), *cosmos_policy().stage.schedule, Rank(stream="action"))
        ),
        "a Branch, then a settled stream of values",
    ),
    "ranking by what was settled before the branches": (
        lambda: staged(
            cosmos_policy(), schedule=(*cosmos_policy().stage.schedule, Branch(num=2), Rank(stream="value"))
        ),
        "a Branch, then a settled stream of values",
    ),
    "a frame of no clip": (
        lambda: cosmos_policy().vary({"stage.streams.value.shares": None}),
        "the video stream whose clip it is a frame of",
    ),
    "blocks that are not whole": (
        lambda: staged(tiny_recipe(), clock=Clock(block_s=0.2, tokens_per_block=(("action", 4),))),
        "whole blocks of 4 tokens",
    ),
    "no phases": (lambda: replace(tiny_recipe(), phases=()), "at least one"),
    "training an unknown tower": (lambda: phased(("expret",), ("action",)), "Did you mean 'expert'"),
    "loss of an observed stream": (lambda: phased(("expert",), ("state",)), "a stream with an objective"),
    "training nothing": (lambda: phased((), ("action",)), "at least one tower"),
    "training what no loss reaches": (
        lambda: replace(fast_wam(), phases=(Phase(name="a", trains=("video",), losses=()),)),
        "each reached by a loss",
    ),
    "posterior needed to act": (
        lambda: staged(
            tiny_recipe(),
            streams=(
                *tiny_streams(),
                counted("plan", views=(View(kind="prior"), View(kind="posterior")), tower="expert", carries="plan"),
            ),
            edges=(
                *tiny_edges(),
                *reads("action", "plan.posterior"),
                *reads("plan", "text", via="cross"),
                *reads("plan.posterior", "text", via="cross"),
            ),
        ),
        "no posterior needed to act",
    ),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_recipe_that_cannot_mean_what_it_says_is_refused_with_the_way_out(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        make().validate()


def test_the_recipes_that_the_refusals_start_from_are_valid() -> None:
    tiny_recipe().validate()
    tiny_recipe(tiny_edges(layers=(0, 2), tap=0, grad=False)).validate()
    for make in RECIPES.values():
        make().validate()


def test_an_unknown_recipe_or_phase_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'fast_wam'"):
        recipe("fastwam")
    with pytest.raises(InputError, match="Did you mean 'head'"):
        fast_wam().phase("heads")


def test_vary_changes_the_named_value_and_nothing_else() -> None:
    changes = {"stage.streams.action.codec.num_actions": 10, "stage.schedule.0.solver.steps": 7}
    varied = tiny_recipe().vary(changes)
    assert varied.stage.stream("action").codec.num_tokens("noised") == 10
    assert varied.stage.schedule == (replace(ACT, solver=Euler(steps=7)),)
    back = varied.vary({"stage.streams.action.codec.num_actions": 6, "stage.schedule.0.solver.steps": 2})
    assert back == tiny_recipe()
    lines = diff(tiny_recipe(), varied).splitlines()[1:]
    assert [line.split()[0] for line in lines] == sorted(changes)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("stage.streams.acton.codec", "Did you mean 'action'"),
        ("stage.streams.action.codec.num_action", "Did you mean 'num_actions'"),
        ("stage.schedule.5.solver.steps", "a member"),
    ],
)
def test_vary_refuses_a_path_that_leads_nowhere(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_recipe().vary({path: 1})


def test_vary_refuses_a_value_that_makes_the_recipe_invalid() -> None:
    with pytest.raises(InputError, match="context_width 8"):
        tiny_recipe().vary({"stage.towers.expert.spec.context_width": 5})


def test_the_diff_of_two_forms_of_fast_wam_is_one_edge_and_one_leg() -> None:
    lines = diff(fast_wam(), fast_wam_joint()).splitlines()[1:]
    assert [" ".join(line.split()) for line in lines] == [
        "axes.paradigm representation_only | joint_prediction",
        "stage.edges.action <- video - | joint",
        "stage.schedule.0.streams ('action',) | ('video', 'action')",
    ]
    assert diff(fast_wam(), fast_wam()) == "fast_wam and fast_wam do not differ."


@pytest.mark.parametrize(
    "change",
    [{"layers": (0,)}, {"tap": 1}, {"window": 1, "when": "upto"}, {"grad": False}, {"via": "modulate"}],
    ids=str,
)
def test_the_diff_sees_every_field_of_an_edge(change: dict[str, object]) -> None:
    turned = tuple(replace(e, **change) if e.src == "text" else e for e in tiny_edges())  # pyright: ignore
    assert "edges" in diff(tiny_recipe(), tiny_recipe(turned))


def test_the_diff_is_the_same_in_every_process() -> None:
    """A long vocabulary is shown by a checksum that does not depend on the process's hash seed."""
    longer = TextTokens(vocabulary=replace(VOCABULARY, words=(*VOCABULARY.words, "a", "b", "c")), max_tokens=8)
    longest = replace(longer, vocabulary=replace(VOCABULARY, words=(*VOCABULARY.words, "a", "b", "d")))
    first, second = (streamed("text", codec=codec) for codec in (longer, longest))
    assert f"{len(VOCABULARY.words) + 3} values" in diff(first, second)
    source = (
        "from crossroads.recipe import leaves; from crossroads.codecs.text import Vocabulary;"
        "print(leaves(Vocabulary(words=tuple('abcdefghijklmnop'))))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", source],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_window_is_what_the_codecs_ask_for_and_they_must_agree() -> None:
    window = fast_wam().window
    assert (window.num_actions, window.action_size, window.num_state) == (12, 4, 4)
    assert window.future_s
    assert window.chunk_s == pytest.approx(1.2)
    assert not pi0().window.future_s
    with pytest.raises(InputError, match="one image size"):
        _ = staged(
            fast_wam(),
            streams=(*fast_wam().stage.streams, replace(pi0().stage.stream("image"), codec=_larger_image())),
        ).window


def _larger_image():
    return replace(pi0().stage.stream("image").codec, image_hw=(96, 96))  # pyright: ignore


def test_a_recipe_is_a_value_that_can_be_compared_and_hashed() -> None:
    for make in RECIPES.values():
        assert make() == make()
        assert hash(make()) == hash(make())
    assert View(kind="now") == NOW
