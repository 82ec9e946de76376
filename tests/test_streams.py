"""Streams, groups and the clock: names and blocks."""

from __future__ import annotations

import pytest
from tiny_stage import counted

from crossroads.errors import InputError
from crossroads.streams import CLEAN, NOISED, NOW, Clock, Edge, View, groups_of, linear_flops, linear_parameters, reads


def test_the_noised_view_carries_the_bare_name_and_the_others_say_what_they_are() -> None:
    video = counted("video", views=(NOW, NOISED, CLEAN))
    assert [video.group(view.kind) for view in video.views] == ["video.now", "video", "video.clean"]
    plan = counted("plan", views=(View(kind="prior"), View(kind="posterior")))
    assert list(groups_of((plan,))) == ["plan", "plan.posterior"]
    assert groups_of((video,))["video.now"].view is NOW


def test_the_order_of_groups_does_not_depend_on_the_order_of_streams() -> None:
    streams = (counted("b"), counted("a", views=(NOISED, CLEAN)), counted("c"))
    assert list(groups_of(streams)) == list(groups_of(streams[::-1])) == ["a", "a.clean", "b", "c"]


def test_two_streams_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="every stream named once"):
        groups_of((counted("a"), counted("a")))


def test_the_clock_puts_tokens_into_blocks_and_unnamed_streams_into_block_zero() -> None:
    clock = Clock(tokens_per_block=(("video", 3),))
    assert clock.block("video", 7) == [0, 0, 0, 1, 1, 1, 2]
    assert clock.block("text", 4) == [0, 0, 0, 0]


def test_reads_makes_one_edge_per_source_of_one_kind() -> None:
    assert reads("a", "b", "c", when="upto", grad=False) == (
        Edge(dst="a", src="b", when="upto", grad=False),
        Edge(dst="a", src="c", when="upto", grad=False),
    )


def test_a_linear_map_costs_two_operations_per_weight_and_token_and_has_a_bias() -> None:
    assert linear_flops(5, 3, 7) == 2 * 5 * 3 * 7
    assert linear_parameters(3, 7) == 3 * 7 + 7
