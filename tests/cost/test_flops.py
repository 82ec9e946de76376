"""Cost from specs: against counted modules on every recipe (``test_every_recipe.py``), against sizes here.

Tiny stages with cross and modulate edges, layers and taps are counted with torch's own counter; published sizes are
compared with the parameter counts that their authors state.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
from nano_batch import ROBOT, nano_batch
from tiny_stage import EXPERT, tiny_edges, tiny_recipe
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build
from crossroads.codecs.pixels import Patches
from crossroads.cost.flops import flops, parameters
from crossroads.cost.passes import legs_of
from crossroads.cost.show import amount, in_words, show
from crossroads.errors import InputError
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import RECIPES
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm
from crossroads.recipes.pi0 import pi0
from crossroads.schedule import Commit, Denoise, Read
from crossroads.solvers import Euler, Skipping, SkippingWhileAlike
from crossroads.stage import Tower
from crossroads.streams import Edge
from crossroads.towers.gemma import Gemma
from crossroads.towers.wan import Wan

WAN_14B = Wan(
    width=5120, mlp=13824, depth=40, heads=40, head_dim=128, rotary=(44, 42, 42), context_width=4096
)  # arXiv 2503.20314, table of model sizes
WAN_5B = Wan(width=3072, mlp=14336, depth=30, heads=24, head_dim=128, rotary=(44, 42, 42), context_width=4096)
GEMMA_2B = Gemma(width=2048, mlp=16384, depth=18, heads=8, kv_heads=1, head_dim=256)  # arXiv 2403.08295, table 1
SO400M = Patches(
    cameras=("front",), image_hw=(224, 224), patch=14, depth=27, vision_width=1152, vision_mlp=4304, heads=16
)  # SigLIP so400m/14, arXiv 2303.15343


def modulated(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    return tuple(replace(edge, via="modulate") if edge.via == "cross" else edge for edge in edges)


def recipe_with(edges: tuple[Edge, ...], expert: Wan = EXPERT) -> Recipe:
    recipe = tiny_recipe(edges)
    towers = (recipe.stage.towers[0], Tower(name="expert", spec=expert))
    legs = (Read(groups=("state",)), Denoise(streams=("action",), solver=Euler(steps=3)), Commit(stream="action"))
    return replace(recipe, stage=replace(recipe.stage, towers=towers, schedule=(*legs, Read(groups=("action.clean",)))))


CASES = {
    "cross": recipe_with(tiny_edges()),
    "cross at some layers": recipe_with(tiny_edges(layers=(0, 2))),
    "cross from a tap": recipe_with(tiny_edges(tap=0)),
    "modulate": recipe_with(modulated(tiny_edges()), replace(EXPERT, context_width=0)),
    "modulate at one layer": recipe_with(modulated(tiny_edges(layers=(1,)))),
    "skipped steps": recipe_with(tiny_edges()).vary({"stage.schedule.1.skipping": Skipping(evaluated=(0, 2))}),
    "modulated head": recipe_with(tiny_edges(), replace(EXPERT, modulated_head=True)),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_forward_flops_and_parameters_are_counted_exactly(case: str) -> None:
    recipe = CASES[case]
    policy = build(recipe, ROBOT, seed=0)
    assert parameters(recipe).total == sum(parameter.numel() for parameter in policy.parameters())
    batch = nano_batch(recipe, size=1)
    batch = replace(batch, obs=batch.obs.told(("push the red cube to the left ball",)))
    assert len(recipe.stage.stream("text").codec.vocabulary.encode(batch.obs.text[0])) == 8  # pyright: ignore
    told = flops(recipe)
    generator = torch.Generator().manual_seed(0)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        policy.settle(batch.obs, generator=generator)
    assert told.act.total == counter.get_total_flops()
    for phase in recipe.phases:
        policy.enter(phase)
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            policy.loss(batch, generator=generator)
        assert told.train[phase.name].forward == counter.get_total_flops()


@pytest.mark.parametrize(
    ("spec", "stated"),
    [(WAN_14B, 14e9), (WAN_5B, 5e9), (GEMMA_2B, 1.98e9)],  # Gemma 2B: 1,981,884,416 without its embeddings
    ids=["wan 14B", "wan 5B", "gemma 2B"],
)
def test_published_towers_have_their_stated_size(spec: Wan | Gemma, stated: float) -> None:
    assert spec.num_parameters() == pytest.approx(stated, rel=0.03)


def test_gemma_2b_and_so400m_are_exact() -> None:
    """Gemma's report, table 2: 1,981,884,416 non-embedding parameters. SigLIP so400m: 412,442,352 with its projector
    left out (the vision tower of PaliGemma)."""
    assert GEMMA_2B.num_parameters() == 1_981_884_416
    projector = 1152 * 2048 + 2048
    assert SO400M.num_parameters(2048) - projector == 412_442_352


def test_sizes_of_fourteen_billion_are_instant_and_scale_as_expected() -> None:
    recipe = fast_wam_idm()
    expert = Wan(
        width=1024, mlp=4096, depth=40, heads=40, head_dim=128, rotary=(128,), context_width=128, modulated_head=False
    )
    video = replace(WAN_14B, context_width=128)
    towers = tuple(
        Tower(name=tower.name, spec={"video": video, "expert": expert}.get(tower.name, tower.spec))
        for tower in recipe.stage.towers
    )
    large = replace(recipe, stage=replace(recipe.stage, towers=towers))
    start = time.process_time()
    large.validate()
    found, told = parameters(large), flops(large)
    assert time.process_time() - start < 1.0
    assert found.parts["towers.video"] > 13e9
    sample = told.train["full"]
    passed = sum(
        recipe.stage.layout.groups[name].stream.codec.num_tokens("noised") for name in ("video", "video.clean")
    )
    passed += 64  # video.now
    # 6 N T for what the tokens pass through; a token passes all weights but those of context and level
    assert sample.total == pytest.approx(6 * found.parts["towers.video"] * passed, rel=0.15)


def test_what_is_frozen_costs_no_backward_and_what_is_cached_costs_nothing() -> None:
    told = flops(fast_wam())
    assert told.train["head"].backward < told.train["head"].forward
    assert told.train_cached["head"].forward < told.train["head"].forward
    assert told.train_cached["head"].backward == told.train["head"].backward
    assert told.train_cached["head"].encode == 0
    assert told.train["full"].backward > 1.5 * (told.train["full"].forward - told.train["full"].encode)


def test_caching_is_paid_once_and_moving_per_step() -> None:
    recipe = pi0()
    five = flops(recipe).act
    ten = flops(recipe.vary({"stage.schedule.0.solver.steps": 10})).act
    assert (five.legs[0].once, five.legs[0].steps) == (ten.legs[0].once, 5)
    assert ten.legs[0].moving == 2 * five.legs[0].moving
    assert five.decode == 0
    assert flops(fast_wam_idm()).act.decode > 0


def test_in_every_recipe_that_denoises_a_skipped_step_does_not_count() -> None:
    """What is decided on the way counts at its most."""
    for make in RECIPES.values():
        recipe = make()
        for number, leg in enumerate(recipe.stage.schedule):
            if isinstance(leg, Denoise) and leg.solver.steps > 2:
                steps = [
                    sum(one.steps for one in legs_of(recipe.vary({f"stage.schedule.{number}.skipping": chosen}).stage))
                    for chosen in (None, Skipping(evaluated=(0, 2)), SkippingWhileAlike())
                ]
                assert steps == [steps[0], steps[0] - leg.solver.steps + 2, steps[0]], recipe.name


def test_shorter_texts_cost_less_and_an_unknown_stream_is_refused() -> None:
    assert flops(pi0(), tokens={"text": 8}).act.total < flops(pi0()).act.total
    with pytest.raises(InputError, match="Did you mean 'text'"):
        flops(pi0(), tokens={"txt": 8})


def test_legs_and_amounts_in_words() -> None:
    assert in_words(Denoise(streams=("video", "action"), solver=Euler(steps=5, factor=5.0))) == (
        "denoise video and action in 5 steps, levels shifted by 5"
    )
    assert in_words(Denoise(streams=("video",), solver=Euler(steps=3, stop=0.6))).endswith("from level 1 to 0.6")
    early = Denoise(streams=("video", "action"), solver=Euler(steps=1), ends=(("video", 0.8),))
    assert in_words(early) == "denoise video and action in 1 step, video to level 0.8 only"
    few = Denoise(streams=("action",), solver=Euler(steps=5), skipping=Skipping(evaluated=(0, 3)))
    assert in_words(few).endswith("in 5 steps, 2 of which run the network")
    assert in_words(replace(few, skipping=SkippingWhileAlike())).endswith(", at most 5 of which run the network")
    assert [amount(number) for number in (12, 4_204_992, 1.07e9, 1.13e19)] == ["12", "4.2 M", "1.07 G", "11.3 E"]


def test_show_says_what_the_architecture_page_promises() -> None:
    text = show(fast_wam_idm())
    for words in (
        "arXiv 2603.16666",
        "cached while action moves: state, text, video.clean, video.now",
        "inverse_dynamics",
        "then hold video as if observed; then denoise action in 5 steps",
        "phase head: trains expert",
        "front at 64 x 64 px",
        "video.clean 64",
    ):
        assert words in text
