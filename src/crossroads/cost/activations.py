"""What the backward pass keeps of the forward pass: activation memory of one training sample, from specs alone.

Counted are the tensors that eager autograd saves, tower layer by tower layer, with attention that saves queries, keys,
values and results but no scores (Dao 2023, arXiv 2307.08691), and without recomputation. The terms are those of
Korthikanti et al. 2022, arXiv 2205.05198, section 4.1, for these blocks: no dropout, keys and values gathered once per
reading group, norms in float32. Weights that pass gradients but take none are counted as if they took them. Held to
what autograd really saves in ``tests/cost/test_activations.py``.
"""

from __future__ import annotations

from dataclasses import replace

from crossroads.codecs.pixels import Patches
from crossroads.cost.flops import Work
from crossroads.cost.kept import Kept, Pass
from crossroads.cost.kept_codecs import answers, embedding, vision_layer
from crossroads.cost.kept_layers import LAYERS, frame
from crossroads.errors import InputError
from crossroads.stage import Phase
from crossroads.towers.forward import ForwardTower
from crossroads.towers.llama import SmolExpert


def saved_by_training(phase: Phase, work: Work) -> Kept:
    """What one training sample of a phase keeps until its backward pass.

    A tower that is frozen and yet passes gradients on is counted as if it were trained, which is too much.
    """
    layout, work = work.layout, replace(work, training=True)
    owing = work.stage.owing(phase.losses)
    needed = layout.needed(owing)
    fixed = layout.stable([name for name, group in layout.groups.items() if group.tower in phase.trains])
    moving = needed - fixed
    towers = {layout.groups[name].tower for name in moving}
    total = Kept()
    for tower in sorted(towers):
        total += _tower(tower, sorted(name for name in needed if layout.groups[name].tower == tower), work)
    for name in sorted(moving):
        total += embedding(name, work)
    return total + answers(owing, work)


def widest_layer(names: frozenset[str], work: Work) -> Kept:
    """What the costliest layer of one pass without gradients holds while it runs."""
    by_tower: dict[str, list[str]] = {}
    for name in sorted(names):
        by_tower.setdefault(work.layout.groups[name].tower, []).append(name)
    layers = [Kept()]
    for tower, groups in by_tower.items():
        depth = work.specs[tower].geometry.depth
        layers += [_layer(tower, groups, layer, work) for layer in range(depth)]
    for name in names:
        codec = work.layout.groups[name].stream.codec
        if isinstance(codec, Patches):
            layers.append(vision_layer(codec))
    return max(layers, key=lambda kept: kept.bytes(2))


def _tower(tower: str, names: list[str], work: Work) -> Kept:
    spec = work.specs[tower]
    if isinstance(spec, ForwardTower):
        narrow, wide = spec.kept(sum(work.num(name) for name in names), work.context(tower, 0))
        return Kept(narrow=narrow, wide=wide)
    total = frame(spec, _given(tower, names, 0, work))
    for layer in range(spec.geometry.depth):
        total += _layer(tower, names, layer, work)
    return total


def _given(tower: str, names: list[str], layer: int, work: Work) -> Pass:
    num = sum(work.num(name) for name in names)
    num_levels = sum(work.num_levels(name) for name in names)
    return Pass(num_tokens=num, num_levels=num_levels, num_context=sum(work.context(tower, layer).values()))


def _layer(tower: str, names: list[str], layer: int, work: Work) -> Kept:
    """One layer, with the keys and values that its groups gather from several places, and what they attend."""
    spec = work.specs[tower]
    if type(spec) not in LAYERS:
        raise InputError(
            where=f"activation memory of tower {tower!r}",
            expected=f"one of {', '.join(sorted(kind.__name__ for kind in LAYERS))}",
            got=type(spec).__name__,
            do="Say in cost/activations.py what a layer of it keeps.",
        )
    heads = spec.geometry
    keys = sum(work.keys(name, layer) for name in names if not _in_one_run(name, names, layer, work))
    gathered = 2 * keys * heads.kv_heads * heads.head_dim
    # What each call attended, and, where a tower has several, those side by side.
    attended = sum(work.num(name) for name in names) * heads.heads * heads.head_dim * (2 if len(names) > 1 else 1)
    kept = LAYERS[type(spec)](spec, _given(tower, names, layer, work)) + Kept(narrow=gathered + attended)
    if heads.cap is not None:  # scores that are bent are all made: as they were, bent, hidden, and their shares
        scores = sum(work.num(name) * work.keys(name, layer) for name in names) * heads.heads
        kept += Kept(wide=4 * scores)
    return kept + _mapped(tower, names, layer, work)


def _mapped(tower: str, names: list[str], layer: int, work: Work) -> Kept:
    """What a layer that maps the keys it reads keeps more than a joint one: what it maps; it has no keys of its own."""
    spec = work.specs[tower]
    if not isinstance(spec, SmolExpert) or not spec.maps_keys(layer):
        return Kept()
    num = work.mapped(names, layer) - sum(work.num(name) for name in names)
    return Kept(narrow=2 * num * spec.kv_heads * spec.head_dim)


def _in_one_run(name: str, names: list[str], layer: int, work: Work) -> bool:
    """Whether all that a group reads lies side by side in its own tower's run, so that nothing is copied."""
    edges = [edge for edge in work.layout.sources(name) if edge.layers is None or layer in edge.layers]
    read = [other for other in names if other in {edge.src for edge in edges}]
    if len(read) < len(edges) or len({edge.grad for edge in edges}) > 1:
        return False
    return not read or names[names.index(read[0]) : names.index(read[-1]) + 1] == read
