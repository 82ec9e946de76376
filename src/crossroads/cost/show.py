"""What a reader sees of a recipe before anything is trained: its picture, its axes, its sizes, its cost."""

from __future__ import annotations

from crossroads.axes import computed
from crossroads.cost.amounts import Flops, Parameters
from crossroads.cost.flops import flops, parameters
from crossroads.diffusion import Ddim, Ddpm, Renoise
from crossroads.edm import EdmEuler
from crossroads.recipe import Recipe
from crossroads.schedule import Branch, Commit, Decode, Denoise, Draw, Leg, Predict, Rank, Read, moved
from crossroads.solvers import ExponentialMultistep, SkippingWhileAlike, Solver, Strides, UniPC


def show(recipe: Recipe) -> str:
    """A recipe as text: paper, layout, axes, schedule, window, tokens, parameters, FLOPs, departures."""
    layout = recipe.stage.layout
    acting = list(moved(recipe.stage.schedule[-1])) if recipe.stage.schedule else []
    return "\n".join(
        [
            f"{recipe.name}: {recipe.paper}",
            "",
            layout.picture(acting, recipe.stage.outputs()),
            "",
            *_axes(recipe),
            "schedule: " + "; then ".join(in_words(leg) for leg in recipe.stage.schedule),
            *_phases(recipe),
            _window(recipe),
            "tokens: "
            + ", ".join(
                f"{name} {group.stream.codec.num_tokens(group.view.kind)}" for name, group in layout.groups.items()
            ),
            "",
            *_parameters(recipe, parameters(recipe)),
            "",
            *_flops(flops(recipe)),
            *(["", "departs from the paper:", *(f"- {words}" for words in recipe.departs)] if recipe.departs else []),
        ]
    )


def in_words(leg: Leg) -> str:
    """One leg as a phrase."""
    if isinstance(leg, Denoise):
        words = f"denoise {' and '.join(leg.streams)} in {_steps(leg)}{_path(leg.solver)}{_asked(leg)}"
        guided = leg.guidance
        return words + (f", {' and '.join(guided.streams)} guided by {guided.scale:g}" if guided else "")
    if isinstance(leg, Predict):
        return f"predict {' and '.join(leg.streams)} in one pass"
    if isinstance(leg, Decode):
        return f"write {leg.stream} token by token" + (f", at most {leg.max_tokens}" if leg.max_tokens else "")
    if isinstance(leg, Read):
        return f"read {', '.join(leg.groups)}"
    if isinstance(leg, Branch):
        return f"go on {leg.num} times"
    if isinstance(leg, Rank):
        return f"keep the branch with the best {leg.stream}"
    if isinstance(leg, Draw):
        return f"draw {leg.stream}" if leg.sampled else f"take the likeliest {leg.stream}"
    assert isinstance(leg, Commit)
    return f"hold {leg.stream} as if observed" if not leg.observed else f"remember {leg.stream} as observed"


def _steps(leg: Denoise) -> str:
    return "1 step" if leg.solver.steps == 1 else f"{leg.solver.steps} steps"


def _asked(leg: Denoise) -> str:
    """At how many steps the network runs, if not at all, and which streams stop early."""
    most = "at most " if isinstance(leg.skipping, SkippingWhileAlike) else ""
    words = f", {most}{leg.evaluations} of which run the network" if leg.skipping else ""
    return words + "".join(f", {name} to level {level:g} only" for name, level in leg.ends)


def _path(solver: Solver) -> str:
    """What a solver does differently from even Euler steps from noise to clean."""
    if isinstance(solver, ExponentialMultistep):
        return f" of its exponential solver from scale {solver.high:g} to {solver.low:g}"
    if isinstance(solver, Ddim | Ddpm):
        noisy = f" with eta {solver.eta:g}" if isinstance(solver, Ddim) and solver.eta else ""
        return f" of {type(solver).__name__.upper()}, of {solver.process.num_steps}{noisy}"
    if isinstance(solver, Renoise):
        return ", each of which answers the clean value, noised again with the same noise"
    if isinstance(solver, EdmEuler):
        return f" between noise scales that fall evenly in their logarithm from {solver.high:g} to {solver.low:g}"
    if isinstance(solver, Strides):
        cut = "" if solver.clip is None else f", cut to {solver.clip[0]:g} to {solver.clip[1]:g}"
        return f" of {solver.taken} of {solver.num_steps} each{cut}"
    named = " of UniPC" if isinstance(solver, UniPC) else ""
    span = f" from level {solver.start:g} to {solver.stop:g}" if (solver.start, solver.stop) != (1.0, 0.0) else ""
    return named + span + (f", levels shifted by {solver.factor:g}" if solver.factor != 1 else "")


def amount(number: float) -> str:
    """A count with three digits and a letter: 4.2 M, 1.07 G, 11.3 E."""
    for power, letter in ((21, "Z"), (18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:.3g} {letter}"
    return f"{number:g}"


def _axes(recipe: Recipe) -> list[str]:
    found = computed(recipe)
    lines = [f"paradigm {found.paradigm}, architecture {found.architecture}, action integration {found.integration}"]
    if found != recipe.axes:
        stated = recipe.axes
        lines.append(f"the paper says {stated.paradigm}, {stated.architecture}, {stated.integration}, because")
        lines += [f"- {words}" for words in recipe.because]
    return lines


def _phases(recipe: Recipe) -> list[str]:
    return [
        f"phase {phase.name}: trains {', '.join(phase.trains)} on the losses of {', '.join(phase.losses)}"
        for phase in recipe.phases
    ]


def _window(recipe: Recipe) -> str:
    window = recipe.window
    asked = []
    if window.cameras:
        asked.append(f"{', '.join(window.cameras)} at {window.image_hw[0]} x {window.image_hw[1]} px")
    if window.num_state:
        asked.append(f"state of {window.num_state}")
    if window.num_actions:
        asked.append(f"{window.num_actions} actions of {window.action_size} at {window.control_hz:g} Hz")
    if window.future_s:
        asked.append(f"future frames at {', '.join(f'{time:g}' for time in window.future_s)} s")
    return "window: " + ("; ".join(asked) or "words only")


def _parameters(recipe: Recipe, found: Parameters) -> list[str]:
    width = max(len(part) for part in found.parts) + 2
    lines = ["parameters", *(f"  {part:{width}}{amount(num)}" for part, num in sorted(found.parts.items()))]
    lines.append(f"  {'total':{width}}{amount(found.total)}")
    for phase in recipe.phases:
        lines.append(f"  {'in ' + phase.name:{width}}{amount(found.trained[phase.name])}")
    return lines


def _flops(found: Flops) -> list[str]:
    act = found.act
    lines = [f"FLOPs of one act call (one chunk): {amount(act.total)}"]
    if act.encode:
        lines.append(f"  autoencode the frame of now: {amount(act.encode)}")
    for leg in act.legs:
        step = f"{leg.steps} x {amount(leg.moving / leg.steps)}"
        lines.append(f"  {leg.leg}: {amount(leg.once)} once, then {step}")
    if act.decode:
        lines.append(f"  decode the imagined frames: {amount(act.decode)}")
    for phase, sample in found.train.items():
        lines.append(
            f"FLOPs of one training sample, phase {phase}: {amount(sample.total)}; "
            f"from cached features: {amount(found.train_cached[phase].total)}"
        )
    return lines
