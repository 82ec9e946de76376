"""The rules of acting: what a schedule may do, in which order, with which streams."""

from __future__ import annotations

from collections.abc import Mapping

from crossroads.codecs.frame_features import FrameFeatures
from crossroads.diffusion import Process
from crossroads.layout import Layout
from crossroads.objectives import Diffusion, Flow, Likelihood, Regress, TokenCE
from crossroads.plans import KL
from crossroads.refusal import Checked, refuse
from crossroads.schedule import Branch, Commit, Decode, Denoise, Draw, Guidance, Predict, Rank, Read, moved
from crossroads.solvers import Skipping, SkippingWhileAlike, Undoing
from crossroads.streams import Stream


def check_schedule(recipe: Checked, layout: Layout) -> None:
    names = {stream.name: stream for stream in recipe.stage.streams}
    if not recipe.stage.schedule:
        refuse(recipe, "schedule", "at least one leg", "none", ())
    settled: set[str] = set()
    committed: set[str] = set()
    _check_branches(recipe, names)
    if recipe.stage.by_block:
        _check_by_block(recipe, layout)
    for leg in recipe.stage.schedule:
        place = f"schedule, {type(leg).__name__}"
        for name in (leg.stream,) if isinstance(leg, Commit) else moved(leg):
            if name not in names:
                refuse(recipe, place, "a stream", repr(name), names)
            if isinstance(leg, Denoise) and leg.guidance:
                _check_guidance(recipe, leg, leg.guidance, names)
            kinds = {Decode: (TokenCE,), Predict: (Regress, Likelihood), Draw: (KL,)}.get(type(leg), ())
            if isinstance(leg, Denoise):
                kinds = (Diffusion,) if isinstance(leg.solver, Undoing) else (Flow,)
            if kinds and not isinstance(names[name].objective, kinds):
                got, wanted = type(names[name].objective).__name__, " or ".join(kind.__name__ for kind in kinds)
                refuse(recipe, f"{place}({name})", f"a stream with a {wanted} objective", got, ())
        if isinstance(leg, Denoise):
            _check_walk(recipe, leg, names)
        if isinstance(leg, Commit):
            known = leg.observed or leg.stream in settled
            if not known or "clean" not in [view.kind for view in names[leg.stream].views]:
                got = "neither or only one"
                refuse(recipe, f"Commit({leg.stream})", "a settled stream with a clean view", got, ())
            committed.add(names[leg.stream].group("clean"))
        if isinstance(leg, Read):
            for group in leg.groups:
                if group not in layout.groups:
                    refuse(recipe, place, "a group", repr(group), layout.groups)
        reads = leg.groups if isinstance(leg, Read) else (*moved(leg), *recipe.stage.drawn_from(leg))
        _check_ready(recipe, place, layout.needed(reads) - set(moved(leg)), layout, settled, committed)
        shown = {layout.groups[one].stream.name for one in layout.shown_to(layout.needed(reads))}
        for name in sorted(shown - (settled - set(moved(leg)))):
            refuse(recipe, place, f"a leg that settles {name} before its pictures are shown", "no such leg", ())
        settled.update(moved(leg))


def _check_by_block(recipe: Checked, layout: Layout) -> None:
    """What goes on block by block commits what was observed before anything else, and moves blocks of one clock."""
    observed = [isinstance(leg, Commit) and leg.observed for leg in recipe.stage.schedule]
    if observed != sorted(observed, reverse=True):
        refuse(recipe, "schedule", "what was observed to be committed first", "another leg before it", ())
    first = recipe.stage.stream(recipe.stage.remembered[0].removesuffix(".clean"))
    if first.carries != "video":
        refuse(recipe, "schedule", "a stream of video as the first observed Commit", first.name, ())
    names = sorted({name for leg in recipe.stage.schedule for name in moved(leg)})
    counted = {
        name: layout.clock.num_blocks(name, recipe.stage.stream(name).codec.num_tokens("noised")) for name in names
    }
    if len(set(counted.values())) > 1:
        refuse(recipe, "clock", "as many blocks of each stream that moves block by block", str(counted), ())


def _check_walk(recipe: Checked, leg: Denoise, names: Mapping[str, Stream]) -> None:
    """A discrete process is undone as it was learned, to its end. Velocities that are reused exist; streams that stop
    early are moved, stop on the way and are not executed."""
    if isinstance(leg.solver, Undoing):
        process = leg.solver.process
        other = {
            name: objective.process for name in leg.streams if isinstance(objective := names[name].objective, Diffusion)
        }
        if any(found != process for found in other.values()):
            refuse(recipe, "Denoise, solver", f"the process of the streams, {other}", str(process), ())
        most = process.num_steps if isinstance(process, Process) else 10**6
        if not 1 <= leg.solver.steps <= most:
            refuse(recipe, "Denoise, solver", f"1 to {most} steps", str(leg.solver.steps), ())
        if leg.ends:
            refuse(recipe, "Denoise, ends", "none, where a discrete process is undone", str(leg.ends), ())
    if isinstance(leg.skipping, Skipping):
        steps = leg.skipping.evaluated
        if not steps or steps[0] != 0 or list(steps) != sorted(set(steps)) or steps[-1] >= leg.solver.steps:
            expected = f"steps from 0 on, in order, each once and below {leg.solver.steps}"
            refuse(recipe, "Denoise, skipping", expected, str(steps), ())
    if isinstance(leg.skipping, SkippingWhileAlike):
        rules = leg.skipping.rules
        cosines = [cosine for cosine, _ in rules]
        if not rules or cosines != sorted(set(cosines), reverse=True) or min(num for _, num in rules) < 1:
            expected = "cosines from the strictest on, each with at least 1 step"
            refuse(recipe, "Denoise, skipping", expected, str(rules), ())
    for name, level in leg.ends:
        place = f"Denoise, ends, {name}"
        if name not in leg.streams or [other for other, _ in leg.ends].count(name) > 1:
            refuse(recipe, place, "streams that the leg moves, each once", repr(name), leg.streams)
        if names[name].carries == "action":
            refuse(recipe, place, "no stream of actions: they are executed as they end", repr(name), ())
        if not leg.solver.stop < level < leg.solver.start:
            expected = f"a level between {leg.solver.stop:g} and {leg.solver.start:g}"
            refuse(recipe, place, expected, f"{level:g}", ())


def _check_guidance(recipe: Checked, leg: Denoise, guidance: Guidance, names: Mapping[str, Stream]) -> None:
    """Guided are streams that the leg moves, away from words that it reads."""
    texts = [name for name, stream in names.items() if stream.carries == "text" and stream.objective is None]
    for place, given, known in (("streams", guidance.streams, leg.streams), ("without", guidance.without, texts)):
        for name in given:
            if name not in known:
                refuse(recipe, f"guidance, {place}", f"some of {sorted(known)}", repr(name), known)
        if not given:
            refuse(recipe, f"guidance, {place}", "at least one", "none", ())


def _check_branches(recipe: Checked, names: Mapping[str, Stream]) -> None:
    """Branches end in a choice, by a stream of values that has been settled since they began."""
    open_branches, outermost, settled = 0, 0, set[str]()
    for leg in recipe.stage.schedule:
        settled |= set(moved(leg))
        if isinstance(leg, Branch):
            if leg.num < 2:
                refuse(recipe, "schedule, Branch", "2 or more branches", str(leg.num), ())
            outermost = outermost if open_branches else leg.num
            settled = settled if open_branches else set()
            open_branches += 1
        if isinstance(leg, Rank):
            values = [name for name, stream in names.items() if stream.carries == ("video" if leg.towards else "value")]
            _check_search(recipe, leg, names)
            if open_branches and leg.best > outermost:
                expected = f"no more of the best than there are branches, {outermost}"
                refuse(recipe, "schedule, Rank, best", expected, str(leg.best), ())
            if not open_branches or leg.stream not in values or leg.stream not in settled:
                got = f"{leg.stream!r} after {open_branches} branches"
                refuse(recipe, "schedule, Rank", "a Branch, then a settled stream of values", got, values)
            open_branches = 0
    if open_branches:
        refuse(recipe, "schedule", "a Rank after Branch", "branches that are never ranked", ())


def _check_search(recipe: Checked, leg: Rank, names: Mapping[str, Stream]) -> None:
    """A goal has features like what is compared with it; what is settled is noise until then."""
    if leg.towards is not None:
        codecs = [names[name].codec if name in names else None for name in (leg.stream, leg.towards)]
        sizes = [codec.size if isinstance(codec, FrameFeatures) else None for codec in codecs]
        if None in sizes or sizes[0] != sizes[1]:
            refuse(recipe, "schedule, Rank, towards", "a stream of the same frame features", repr(leg.towards), names)
    flows = [name for name, stream in names.items() if isinstance(stream.objective, Flow)]
    for name in leg.settles:
        if name not in flows:
            refuse(recipe, "schedule, Rank, settles", "streams with a Flow objective", repr(name), flows)
    if leg.best < (2 if leg.settles else 1) or not 0 <= leg.momentum < 1:
        got = f"best {leg.best}, momentum {leg.momentum:g}"
        refuse(recipe, "schedule, Rank", "at least 2 of the best to settle by, a momentum below 1", got, ())


def _check_ready(
    recipe: Checked, place: str, names: frozenset[str], layout: Layout, settled: set[str], committed: set[str]
) -> None:
    """What a leg reads exists by then: clean views are committed, texts are written, plans are drawn."""
    for name in sorted(names):
        group = layout.groups[name]
        if group.view.kind == "clean" and name not in committed:
            refuse(recipe, place, f"Commit({group.stream.name}) before {name} is read", "no such leg", ())
        unwritten = isinstance(group.stream.objective, TokenCE) and group.stream.name not in settled
        if group.view.kind == "noised" and unwritten:
            refuse(recipe, place, f"Decode({group.stream.name}) before {name} is read", "no such leg", ())
        undrawn = isinstance(group.stream.objective, KL) and group.stream.name not in settled
        if group.view.kind == "noised" and undrawn:
            refuse(recipe, place, f"Draw({group.stream.name}) before {name} is read", "no such leg", ())
