"""The layout against brute force, and the published masks as edge tables.

Masks of Fast-WAM (arXiv 2603.16666), pi0 (2410.24164) and pi0-FAST (2501.09747) are golden tensors of the official
code; DreamZero's and LingBot-VA's come from their rules (2602.15922, 2601.21998) and, where recorded, their masks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_stage import counted
from torch import Tensor

from crossroads.errors import InputError
from crossroads.layout import Layout
from crossroads.recipe import Recipe
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.pi0 import pi0
from crossroads.streams import CLEAN, NOISED, NOW, Clock, Edge, Stream, View, When, reads
from golden import GoldenCase

NAMES = ("a", "b", "c", "d")
edges_among = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), unique=True, max_size=10)


def layout_of(streams: tuple[Stream, ...], edges: tuple[Edge, ...], **per_block: int) -> Layout:
    return Layout.compile(streams, edges, Clock(tokens_per_block=tuple(per_block.items())))


def sees(when: When, window: int | None, query: int, key: int, query_block: int, key_block: int) -> bool:
    """The five relations, token by token, as the architecture page words them."""
    related = {
        "all": True,
        "same": query_block == key_block,
        "past": key_block < query_block,
        "upto": key_block <= query_block,
        "causal": key <= query,
    }[when]
    return related and (window is None or query_block - key_block <= window)


@given(
    when=st.sampled_from(get_args(When)),
    window=st.none() | st.integers(0, 3),
    tokens=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    per_block=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    offset=st.integers(0, 4),
)
def test_a_mask_is_its_relation_token_by_token(
    when: When, window: int | None, tokens: tuple[int, int], per_block: tuple[int, int], offset: int
) -> None:
    edge = Edge(dst="a", src="b", when=when, window=window)
    layout = layout_of((counted("a", 9), counted("b", 9)), (edge,), a=per_block[0], b=per_block[1])
    mask = layout.mask(edge, tokens[0], tokens[1], offset)
    mask = torch.ones(tokens, dtype=torch.bool) if mask is None else mask

    def block(index: int, size: int) -> int:
        return index // size if size else 0

    for query in range(tokens[0]):
        for key in range(tokens[1]):
            blocks = block(query + offset, per_block[0]), block(key, per_block[1])
            assert bool(mask[query, key]) == sees(when, window, query + offset, key, *blocks)


def test_an_edge_that_sees_all_costs_no_mask() -> None:
    layout = layout_of((counted("a"),), reads("a", "a"))
    assert layout.mask(layout.edges[0], 2, 2) is None


@given(edges_among, st.sets(st.sampled_from(NAMES), min_size=1))
def test_needed_and_stable_are_closures_over_the_edges(pairs: list[tuple[str, str]], start: set[str]) -> None:
    """Reachability by powers of the adjacency matrix, which knows nothing of frontiers."""
    layout = layout_of(tuple(counted(name) for name in NAMES), tuple(Edge(dst=d, src=s) for d, s in pairs))
    reads_it = torch.eye(4)
    for dst, src in pairs:
        reads_it[NAMES.index(dst), NAMES.index(src)] = 1
    reached = torch.linalg.matrix_power(reads_it, 4) > 0  # reached[i, j]: i depends on j
    chosen = [NAMES.index(name) for name in start]
    assert layout.needed(start) == {NAMES[j] for j in range(4) if bool(reached[chosen, j].any())}
    assert layout.stable(start) == {NAMES[i] for i in range(4) if not bool(reached[i, chosen].any())}


@given(edges_among)
def test_the_layout_does_not_depend_on_the_order_of_edges(pairs: list[tuple[str, str]]) -> None:
    streams, edges = tuple(counted(name) for name in NAMES), tuple(Edge(dst=d, src=s) for d, s in pairs)
    tokens = dict.fromkeys(NAMES, 2)
    first, second = layout_of(streams, edges), layout_of(streams[::-1], edges[::-1])
    assert torch.equal(first.dense(tokens), second.dense(tokens))  # pyright: ignore[reportArgumentType]
    assert first.picture() == second.picture()


def test_unknown_groups_and_doubled_edges_are_refused() -> None:
    streams = (counted("video", views=(NOW, NOISED)), counted("text"))
    with pytest.raises(InputError, match=r"Did you mean 'video.now'"):
        layout_of(streams, reads("text", "video.noww"))
    with pytest.raises(InputError, match="one joint edge per pair"):
        layout_of(streams, (*reads("text", "video"), *reads("text", "video", when="same")))


def test_who_is_told_a_level_needs_the_group_that_tells_it_and_moves_with_it() -> None:
    told = View(kind="now", told="action")
    streams = (counted("action", views=(NOISED,)), counted("state", views=(told,)), counted("text"))
    layout = layout_of(streams, reads("state", "text"))
    assert layout.needed(["state"]) == {"state", "text", "action"}
    assert layout.stable(["action"]) == {"text"}
    assert "state is told the level of action" in layout.picture()
    with pytest.raises(InputError, match=r"group state, told.*Did you mean 'action'"):
        layout_of((streams[0], counted("state", views=(View(kind="now", told="acton"),))), ())


def test_towers_are_joined_by_joint_edges_and_served_after_what_they_read_across() -> None:
    streams = (counted("a", tower="a"), counted("b", tower="b"), counted("c", tower="c"))
    layout = layout_of(streams, (*reads("a", "b"), *reads("b", "c", via="cross")))
    assert layout.joints() == (frozenset("c"), frozenset("ab"))
    with pytest.raises(InputError, match="a circle"):
        layout_of(streams, (*reads("a", "b", via="cross"), *reads("b", "a", via="modulate"))).joints()
    with pytest.raises(InputError, match="share one softmax"):
        layout_of(streams, (*reads("a", "b"), *reads("b", "a", via="cross"))).joints()


def test_the_picture_marks_kinds_and_cuts_and_says_what_is_cached_and_needed() -> None:
    streams = (counted("action", tower="expert"), counted("image"), counted("text"))
    edges = (*reads("action", "image", grad=False), *reads("action", "text", via="modulate"), *reads("image", "text"))
    picture = layout_of(streams, edges).picture(["action"], ["image"]).splitlines()
    assert picture[1].split() == ["action", "[expert]", ".", "#|", "m"]
    assert picture[2].split() == ["image", "[one]", ".", ".", "#"]
    assert picture[-2:] == ["cached while action moves: image, text", "needed to act: image, text"]


# Published masks


def grouped(layout: Layout, tokens: Mapping[str, int], order: list[str]) -> Tensor:
    """The dense mask with groups in the order of the publication."""
    starts, names = {}, sorted(tokens)
    for name in names:
        starts[name] = sum(tokens[other] for other in names[: names.index(name)])
    index = torch.cat([torch.arange(starts[name], starts[name] + tokens[name]) for name in order])
    return layout.dense(tokens)[index][:, index]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("make", "order"),
    [
        (fast_wam, ["video.now", "video", "action"]),
        (fast_wam_joint, ["video.now", "video", "action"]),
        (fast_wam_idm, ["video.now", "video", "video.clean", "action"]),
    ],
)
def test_fast_wam_masks_are_the_official_ones(
    make: Callable[[], Recipe], order: list[str], golden: Callable[[str], GoldenCase]
) -> None:
    """Ours has one frame of now where IDM's sequence repeats it in each copy: the copies of frame 0 are equal (both
    clean, both reading only themselves), so reading one is reading the other; we take the columns accordingly."""
    tokens = {"video.now": 6, "video": 12, "video.clean": 12, "action": 8}
    published = golden(make().name).outputs["train.attention_mask"].bool()
    if make is fast_wam_idm:
        first, second, actions = torch.arange(0, 18), torch.arange(18, 36), torch.arange(36, 44)
        rows = torch.cat([first, second[6:], actions])
        seen = published[rows]
        seen[:, :6] |= seen[:, 18:24]
        assert torch.equal(published[18:24, 18:24], published[:6, :6])
        published = seen[:, rows]
    ours = grouped(make().stage.layout, {name: tokens[name] for name in order}, order)
    assert torch.equal(ours, published)


@pytest.mark.golden
def test_the_mask_of_pi0_is_the_official_one(golden: Callable[[str], GoldenCase]) -> None:
    case = golden("pi0")
    order, tokens = ["image", "text", "state", "action"], {"image": 8, "text": 7, "state": 1, "action": 5}
    ours = grouped(pi0().stage.layout, tokens, order)
    valid = case.outputs["pad_mask"].bool()
    seen = ours & valid[:, None, :] & valid[:, :, None]
    assert torch.equal(seen, case.outputs["attention_mask"].bool())


@pytest.mark.golden
def test_the_mask_of_pi0_fast_is_the_official_one(golden: Callable[[str], GoldenCase]) -> None:
    case = golden("pi0_fast")
    streams = (counted("image"), counted("prompt"), counted("action", views=(NOISED,)))
    edges = tuple(edge for dst in ("image", "prompt", "action") for edge in reads(dst, "image", "prompt"))
    layout = layout_of(streams, (*edges, Edge(dst="action", src="action", when="causal")))
    ours = grouped(layout, {"image": 8, "prompt": 7, "action": 6}, ["image", "prompt", "action"])
    valid = case.outputs["pad_mask"].bool()
    assert torch.equal(ours & valid[:, None, :] & valid[:, :, None], case.outputs["attention_mask"].bool())


def test_dreamzero_is_an_edge_table() -> None:
    """Blocks after frame 0; frame 0 is a group of its own (``first``). Window off: it counts frames, not blocks."""
    blocks, video, actions = 3, 8, 4
    streams = (
        counted("first", 4),
        counted("video", blocks * video, views=(NOISED, CLEAN)),
        counted("action", blocks * actions, views=(NOISED,)),
        counted("state", blocks),
    )
    noisy = [
        edge
        for dst in ("video", "action")
        for edge in (
            *reads(dst, "first"),
            *reads(dst, "video.clean", when="past"),
            *reads(dst, "video", "action", "state", when="same"),
        )
    ]
    edges = (
        *reads("first", "first"),
        *reads("video.clean", "first"),
        *reads("video.clean", "video.clean", when="upto"),
        *noisy,
        *reads("state", "state", when="same"),
    )
    layout = layout_of(streams, edges, video=video, action=actions, state=1)
    tokens = {"first": 4, "video.clean": 24, "video": 24, "action": 12, "state": 3}
    order = ["first", "video.clean", "video", "action", "state"]
    kind = [name for name in order for _ in range(tokens[name])]
    size = {"video.clean": video, "video": video, "action": actions, "state": 1, "first": 99}
    block = [index // size[name] for name in order for index in range(tokens[name])]
    mask = grouped(layout, tokens, order)
    for query in range(len(kind)):
        for key in range(len(kind)):
            q, k, same = kind[query], kind[key], block[query] == block[key]
            expected = {
                "first": k == "first",
                "video.clean": k == "first" or (k == "video.clean" and block[key] <= block[query]),
                "state": k == "state" and same,
            }.get(
                q,
                k == "first"
                or (k == "video.clean" and block[key] < block[query])
                or (k not in ("first", "video.clean") and same),
            )
            assert bool(mask[query, key]) == expected, (q, k)


@pytest.mark.golden
def test_the_mask_of_lingbot_va_is_the_official_one(golden: Callable[[str], GoldenCase]) -> None:
    """Chunks of 2 frames, no window: an action chunk comes after the video chunk of its own time."""
    tokens_of = {"video": 16, "action": 12}
    streams = tuple(counted(name, num, views=(NOISED, CLEAN)) for name, num in tokens_of.items())
    edges = (
        *reads("video", "video.clean", "action.clean", when="past"),
        *reads("video", "video", when="same"),
        *reads("video.clean", "video.clean", when="upto"),
        *reads("video.clean", "action.clean", when="past"),
        *reads("action", "video.clean", when="upto"),
        *reads("action", "action.clean", when="past"),
        *reads("action", "action", when="same"),
        *reads("action.clean", "video.clean", "action.clean", when="upto"),
    )
    layout = layout_of(streams, edges, video=8, action=6)
    order = ["video", "video.clean", "action", "action.clean"]
    ours = grouped(layout, {"video": 16, "video.clean": 16, "action": 12, "action.clean": 12}, order)
    first_sample = torch.cat(
        [torch.arange(start, start + num) for start, num in ((0, 16), (32, 16), (64, 12), (88, 12))]
    )
    published = golden("lingbot_va").outputs["mask.K2_window64"].bool()[first_sample][:, first_sample]
    assert torch.equal(ours, published)
