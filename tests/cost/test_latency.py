"""The floor under the latency of a chunk: what it adds up to, what it falls with, and what it must not count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossroads.cost.flops import Work, flops, parameters
from crossroads.cost.latency import LatencyFloor, latency_floor, weights_read
from crossroads.cost.price import ACCELERATORS, Accelerator
from crossroads.recipe import Recipe
from crossroads.recipes.catalogue import RECIPES, recipe, sizes
from crossroads.schedule import Denoise

H100 = ACCELERATORS["h100"]
EVERY = [(name, size) for name in sorted(RECIPES) for size in sizes(name)]


def floor_of(chosen: Recipe, on: Accelerator = H100) -> LatencyFloor:
    return latency_floor(chosen, Work(stage=chosen.stage), flops(chosen), on)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_the_passes_do_all_the_work_of_acting_and_no_more(name: str, size: str) -> None:
    chosen = recipe(name, size)
    floor, act = floor_of(chosen), flops(chosen).act
    assert sum(one.count * one.flop for one in floor.passes) == pytest.approx(act.total - act.decode)
    assert floor.compute_s == pytest.approx((act.total - act.decode) / H100.device.peak_flop_per_s)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_the_floor_is_never_below_compute_or_bandwidth_and_never_above_both(name: str, size: str) -> None:
    floor = floor_of(recipe(name, size))
    assert max(floor.compute_s, floor.bandwidth_s) <= floor.floor_s <= floor.compute_s + floor.bandwidth_s
    assert all(one.floor_s == max(one.compute_s, one.bandwidth_s) for one in floor.passes)


@pytest.mark.parametrize("name", ["pi0", "fast_wam", "fast_wam_idm", "fast_wam_joint"])
def test_fewer_denoising_steps_lower_the_floor_by_what_a_step_costs(name: str) -> None:
    chosen = recipe(name, "published")
    legs = [index for index, leg in enumerate(chosen.stage.schedule) if isinstance(leg, Denoise)]
    floors = [floor_of(chosen.vary({f"stage.schedule.{legs[-1]}.solver.steps": steps})) for steps in (1, 5, 10)]
    one, five, ten = (floor.floor_s for floor in floors)
    assert one < five < ten
    assert (ten - five) / 5 == pytest.approx((five - one) / 4)
    assert floors[0].passes[:-1] == floors[2].passes[:-1], "what is cached is paid once"


def test_every_weight_is_read_once_where_one_pass_does_everything() -> None:
    chosen = recipe("cloning")
    work = Work(stage=chosen.stage)
    everything = frozenset(chosen.stage.layout.groups)
    table = chosen.stage.stream("text").codec.num_parameters(96)
    assert weights_read(everything, ("action",), work) == parameters(chosen).total - table


def test_a_table_of_words_is_looked_up_and_not_read() -> None:
    large = recipe("pi0", "published")
    prefix = floor_of(large).passes[0]
    parts = parameters(large).parts
    run = ("towers.language", "codecs.image", "towers.expert", "codecs.state")  # the state runs through the expert
    assert prefix.weight_bytes == 2 * sum(parts[part] for part in run)
    assert parts["codecs.text"] > 5e8


def test_writing_words_reads_the_table_at_every_step() -> None:
    chosen = recipe("nano_vlm")
    written = floor_of(chosen).passes[-1]
    parts = parameters(chosen).parts
    assert written.count == 32
    assert written.weight_bytes == 2 * (parts["towers.language"] + parts["codecs.text"])


def test_steps_read_the_cached_keys_and_values_of_what_stands_still() -> None:
    chosen = recipe("pi0", "published")
    steps = floor_of(chosen).passes[-1]
    assert steps.cache_bytes == 2 * 2 * 18 * 256 * (768 + 48 + 1)  # image, text, state


def test_a_faster_memory_helps_where_bandwidth_binds_and_nowhere_else() -> None:
    chosen = recipe("pi0", "published")
    slow, fast = floor_of(chosen), floor_of(chosen, replace(H100, bytes_per_s=2 * H100.bytes_per_s))
    prefix, steps = slow.passes
    assert (prefix.bound, steps.bound) == ("compute", "bandwidth")
    assert fast.passes[0].floor_s == prefix.floor_s
    assert fast.passes[1].floor_s == pytest.approx(steps.floor_s / 2)


def test_published_floors_are_near_those_computed_by_hand() -> None:
    """By hand at 790 TFLOP/s and 3.0 TB/s (rates reached elsewhere): pi0 with three views 7.0 ms, Fast-WAM 9.1 to 9.3,
    its joint form 39 to 47, the form that imagines first 43 to 51, all with the words' keys cached."""
    reached = replace(H100, device=replace(H100.device, peak_flop_per_s=790e12), bytes_per_s=3.0e12)
    found = {
        name: 1e3 * floor_of(recipe(name, "published"), reached).floor_s for name in RECIPES if len(sizes(name)) > 1
    }
    assert found["pi0"] == pytest.approx(7.0, rel=0.1)
    assert found["fast_wam"] == pytest.approx(9.2, rel=0.25)
    assert 39 <= found["fast_wam_joint"] <= 47
    assert 43 <= found["fast_wam_idm"] <= 51
