"""The rules of value edges inside a stage: states that are handed on as tokens, pictures that are shown once drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crossroads.codecs.frame_latents import FrameLatents
from crossroads.codecs.handed import HandedStates
from crossroads.codecs.target_pictures import TargetPictures
from crossroads.layout import Layout
from crossroads.refusal import Checked, refuse
from crossroads.stage import Tower
from crossroads.streams import Edge

SHOWN = FrameLatents | TargetPictures
"""Codecs that have pictures to show."""
SETTING = "value edges only between stages, to a stream of HandedStates, or from a stream that is drawn"


def check_values(recipe: Checked, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """Refuse a value edge that means nothing, and handed states without one."""
    for edge in layout.edges:
        (_check_shown if layout.showing(edge) else _check_handed)(recipe, edge, layout)
    _check_hands(recipe, layout, towers)


def _check_shown(recipe: Checked, edge: Edge, layout: Layout) -> None:
    """Who is drawn and has pictures shows them to what observes pictures, or has some beside what is drawn of it."""
    place, dst, src = f"edge {edge.dst} <- {edge.src}", layout.groups[edge.dst], layout.groups[edge.src]
    if not isinstance(src.stream.codec, SHOWN):
        refuse(recipe, place, "a stream of frames to show", type(src.stream.codec).__name__, ())
    beside = isinstance(dst.stream.codec, FrameLatents) and dst.stream.codec.known_every
    if dst.view.kind != "now" and not (dst.view.kind == "noised" and beside):
        refuse(recipe, place, "a group that observes, or frames with known ones beside them", dst.view.kind, ())
    if replace(edge, via="joint") != Edge(dst=edge.dst, src=edge.src):
        refuse(recipe, place, "a value edge and nothing more said of it", str(edge), ())
    if recipe.stage.by_block or recipe.stage.looks_back > 1:
        refuse(recipe, place, "acting that looks at one moment, each call anew", "acting that remembers", ())


def _check_handed(recipe: Checked, edge: Edge, layout: Layout) -> None:
    """Of what is observed a value edge hands states on, whole, to a stream whose tokens they are; all others go
    between stages."""
    codec = layout.groups[edge.dst].stream.codec
    if edge.via != "value":
        if isinstance(codec, HandedStates) and edge.via != "joint":
            refuse(recipe, f"edge {edge.dst} <- {edge.src}", "a value or joint edge", f"a {edge.via} edge", ())
        return
    place = f"edge {edge.dst} <- {edge.src}"
    sources = codec.sources if isinstance(codec, HandedStates) else ()
    if edge.src not in sources:
        refuse(recipe, place, SETTING, "one inside", sources)
    if edge.when != "all" or edge.window is not None or edge.layers is not None or edge.tap is not None:
        refuse(recipe, place, "a value edge that hands all on", str(edge), ())


def _check_hands(recipe: Checked, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """What is handed on is observed, of one tower that has the layers and the width that are read, and has an edge."""
    for name, group in layout.groups.items():
        codec = group.stream.codec
        if not isinstance(codec, HandedStates):
            continue
        place = f"stream {group.stream.name}, sources"
        given = {edge.src for edge in layout.sources(name, "value")}
        if not codec.sources or given != set(codec.sources):
            refuse(recipe, place, f"a value edge from each of {codec.sources}", str(sorted(given)), ())
        read = [layout.groups[source] for source in codec.sources]
        if {one.view.kind for one in read} != {"now"} or len({one.tower for one in read}) > 1:
            refuse(recipe, place, "groups of one tower that are observed", str(codec.sources), ())
        spec = towers[read[0].tower].spec
        if spec.width != codec.state_width or not set(codec.taps) <= set(range(spec.geometry.depth)):
            expected = f"states {spec.width} wide, and taps from 0 to {spec.geometry.depth - 1}"
            refuse(recipe, place, expected, f"{codec.state_width}, {codec.taps}", ())
        num = sum(one.stream.codec.num_tokens("now") for one in read)
        if num != codec.num:
            refuse(recipe, f"stream {group.stream.name}, num", f"the sources' {num} tokens", str(codec.num), ())
