"""What makes a recipe mean something: every rule that is refused when it is broken, with the place and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.frames import ActionFrame, StateFrame, ValueFrame
from crossroads.codecs.motion import MotionClip, MotionCodes
from crossroads.codecs.plan import PlanQuery
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.text import TextTokens
from crossroads.codecs.told_actions import ToldActions
from crossroads.errors import InputError
from crossroads.layout import Layout
from crossroads.objectives import Align, Diffusion, Flow, Likelihood, TokenCE
from crossroads.refusal import Checked, refuse
from crossroads.schedule_checks import check_schedule
from crossroads.stage import Tower
from crossroads.streams import Edge, Stream, ViewKind
from crossroads.towers.action_transformer import ActionTransformer
from crossroads.towers.action_unet import ActionUNet
from crossroads.towers.forward import ForwardTower, read_width, taps_of
from crossroads.towers.given import Given
from crossroads.towers.llama import SmolExpert
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.playing import Playing
from crossroads.value_checks import check_values


def check(recipe: Checked) -> None:
    """Refuse a recipe that cannot mean what it says.

    Raises:
        InputError: the first rule that is broken.
    """
    layout = recipe.stage.layout
    towers = {tower.name: tower for tower in recipe.stage.towers}
    _check_names(recipe, layout, towers)
    for stream in recipe.stage.streams:
        _check_views(recipe, stream)
        _check_frame(recipe, stream)
        _check_written(recipe, stream)
        _check_labelled(recipe, stream)
    for joint in layout.joints():
        _check_cut(recipe, joint, towers)
        geometries = {name: towers[name].spec.geometry for name in joint}
        if len(set(geometries.values())) > 1:
            raise InputError(
                where=f"recipe {recipe.name!r}, joint edges between {sorted(joint)}",
                expected="equal depth and head geometry in one softmax",
                got=", ".join(f"{name}: {geometry}" for name, geometry in sorted(geometries.items())),
                do="Give the fresh tower the backbone's geometry, or read it by a cross edge.",
            )
    for edge in layout.edges:
        _check_layers(recipe, edge, layout, towers)
        _check_across(recipe, edge, layout, towers)
        _check_mapped(recipe, edge, layout, towers)
    check_values(recipe, layout, towers)
    _check_cuts(recipe, layout)
    _check_coupled(recipe, layout)
    _check_told(recipe, layout)
    _check_heard(recipe, layout)
    _check_plans(recipe, layout)
    _check_told_numbers(recipe)
    check_schedule(recipe, layout)
    _check_phases(recipe, layout, towers)
    _check_posteriors(recipe, layout)


def _check_cut(recipe: Checked, joint: frozenset[str], towers: Mapping[str, Tower]) -> None:
    """Towers that share a softmax are cut around it; of one that is called as a whole nobody has its layers' keys."""
    whole = sorted(name for name in joint if isinstance(towers[name].spec, ForwardTower | Given))
    if whole and len(joint) > 1:
        raise InputError(
            where=f"recipe {recipe.name!r}, joint edges between {sorted(joint)}",
            expected="towers that are cut around the softmax, layer by layer",
            got=f"{', '.join(whole)}: called as a whole or made of a frozen model's states, without queries and keys",
            do="Read its states (its taps) by a cross edge, or take a decoder that is cut: Gemma, Gemma3, Llama, Qwen.",
        )


def _check_names(recipe: Checked, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """Every name means something, and nothing that is named lies idle."""
    stage = recipe.stage
    streams = {stream.name: stream for stream in stage.streams}
    for stream in stage.streams:
        if stream.tower not in towers:
            refuse(recipe, f"stream {stream.name}", "a tower of this stage", repr(stream.tower), towers)
        if stream.shares and (stream.shares not in streams or streams[stream.shares].shares):
            owners = [name for name, other in streams.items() if not other.shares and name != stream.name]
            refuse(recipe, f"stream {stream.name}", "a stream with weights to share", repr(stream.shares), owners)
        if stream.shares:
            widths = [towers[tower].spec.width for tower in (stream.tower, streams[stream.shares].tower)]
            if len(set(widths)) > 1:
                refuse(recipe, f"stream {stream.name}, shares", "towers of one width", f"{widths}", ())
    for place, names in (("towers", stage.towers), ("phases", recipe.phases)):
        labels = [part.name for part in names]
        if len(set(labels)) != len(labels):
            refuse(recipe, place, "every name once", str(labels), ())
    idle = set(towers) - {stream.tower for stream in stage.streams}
    if idle:
        refuse(recipe, "towers", "towers that process a stream", f"idle {sorted(idle)}", ())
    for name in stage.sequence:
        if name not in layout.groups:
            refuse(recipe, "sequence", "a group", repr(name), layout.groups)
    for name, _ in stage.clock.tokens_per_block:
        if name not in streams:
            refuse(recipe, "clock", "a stream", repr(name), streams)


def _check_views(recipe: Checked, stream: Stream) -> None:
    """A stream is present only in ways in which its codec can be, and is learned exactly if one view is noised."""
    place = f"stream {stream.name}"
    kinds = [view.kind for view in stream.views]
    if not kinds or len(set(kinds)) != len(kinds):
        refuse(recipe, f"{place}, views", "at least one, each once", str(kinds), ())
    for view in stream.views:
        if view.kind not in stream.codec.views:
            refuse(recipe, f"{place}, view {view.kind}", f"one of {stream.codec.views}", repr(view.kind), ())
        if view.noised_share and (view.kind != "clean" or not isinstance(stream.objective, Flow)):
            refuse(recipe, f"{place}, noised_share", "a clean view of a Flow stream", repr(view.kind), ())
        if view.levels is not None and not view.noised_share:
            refuse(recipe, f"{place}, levels of the {view.kind} view", "a noised_share", "none", ())
    if (delays := _delays(stream)) and delays >= (num := stream.codec.num_tokens("noised")):
        refuse(recipe, f"{place}, delays", f"fewer than the {num} tokens there are", str(delays), ())
    if isinstance(stream.objective, Align):
        if set(kinds) != {"prior", "posterior"}:
            refuse(recipe, f"{place}, Align", "a prior and a posterior view", str(kinds), ())
        depth = next(tower.spec.geometry.depth for tower in recipe.stage.towers if tower.name == stream.tower)
        layers = stream.objective.layers
        if not layers or not set(layers) <= set(range(depth)):
            refuse(recipe, f"{place}, Align.layers", f"some of 0 to {depth - 1}", str(layers), ())
    elif (stream.objective is None) == ("noised" in kinds):
        got = "an objective and no noised view" if stream.objective else "a noised view and no objective"
        refuse(recipe, place, "an objective exactly where there is a noised view", got, ())


def _delays(stream: Stream) -> int:
    """The largest number of tokens that training gives clean before those that are owed."""
    return max(0, len(stream.objective.delays) - 1) if isinstance(stream.objective, Flow) else 0


def _check_frame(recipe: Checked, stream: Stream) -> None:
    """A frame of a clip goes through the maps of that clip's stream."""
    if isinstance(stream.codec, ActionFrame | StateFrame | ValueFrame):
        clips = {other.name: other for other in recipe.stage.streams if isinstance(other.codec, CameraSlots)}
        if stream.shares not in clips or clips[stream.shares].tower != stream.tower:
            expected = "the video stream whose clip it is a frame of, in the same tower"
            refuse(recipe, f"stream {stream.name}, shares", expected, repr(stream.shares), clips)


def _check_written(recipe: Checked, stream: Stream) -> None:
    """Actions in words are embedded by a text stream of their vocabulary, and predicted token by token."""
    if not isinstance(stream.codec, DiscreteActions):
        return
    place, vocabulary = f"stream {stream.name}", stream.codec.vocabulary
    codecs = {other.name: other.codec for other in recipe.stage.streams}
    texts = {name for name, codec in codecs.items() if isinstance(codec, TextTokens) and codec.vocabulary == vocabulary}
    if stream.shares not in texts:
        expected = "the text stream of its vocabulary"
        refuse(recipe, f"{place}, shares", expected, repr(stream.shares), texts)
    if not isinstance(stream.objective, TokenCE) or stream.objective.end_token != vocabulary.end:
        refuse(recipe, f"{place}, objective", "TokenCE with the vocabulary's end", repr(stream.objective), ())


def _check_labelled(recipe: Checked, stream: Stream) -> None:
    """Latent actions are labelled by the model that learns them, and nothing else is labelled by one."""
    clips = {other.name: other.codec for other in recipe.stage.streams if isinstance(other.codec, MotionClip)}
    place = f"stream {stream.name}, labelled_by"
    if not isinstance(stream.codec, MotionCodes):
        if stream.labelled_by is not None:
            refuse(recipe, place, "none: this codec finds its own targets", repr(stream.labelled_by), ())
        return
    if clips.get(stream.labelled_by or "") != stream.codec.clip:
        refuse(recipe, place, "the stream of its own model of motion", repr(stream.labelled_by), clips)
    if stream.codec.start and not isinstance(stream.objective, TokenCE):
        refuse(recipe, f"stream {stream.name}, objective", "TokenCE", repr(stream.objective), ())


def _check_layers(recipe: Checked, edge: Edge, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """Layers that are read at and tapped exist; a tap on a joint edge would be ignored, so it is refused."""
    place = f"edge {edge.dst} <- {edge.src}"
    specs = [towers[layout.groups[name].tower].spec for name in (edge.dst, edge.src)]
    depths = [specs[0].geometry.depth, taps_of(specs[1])]
    if edge.layers is not None and not (edge.layers and set(edge.layers) <= set(range(depths[0]))):
        refuse(recipe, f"{place}, layers", f"some of 0 to {depths[0] - 1}", str(edge.layers), ())
    if edge.tap is not None and (edge.via == "joint" or not 0 <= edge.tap < depths[1]):
        expected = f"a cross or modulate edge and one of 0 to {depths[1] - 1}"
        refuse(recipe, f"{place}, tap", expected, f"{edge.tap} on a {edge.via} edge", ())


def _check_across(recipe: Checked, edge: Edge, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """Cross and modulate edges need a tower that can be crossed or told; the groups of a tower share one context."""
    if edge.via not in ("cross", "modulate"):
        return
    place = f"edge {edge.dst} <- {edge.src}"
    if edge.when != "all" or edge.window is not None:
        refuse(recipe, place, f"a {edge.via} edge that sees all", f"when={edge.when!r}, window={edge.window}", ())
    tower = layout.groups[edge.dst].tower
    spec = towers[tower].spec
    widths = [getattr(spec, name) for name in ("context_width", "image_width") if hasattr(spec, name)]
    widths += spec.context_widths if isinstance(spec, Playing) else ()
    if isinstance(spec, ActionUNet | ActionTransformer) and spec.seen:
        widths += spec.seen.widths
    if not widths or (edge.via == "cross" and not any(widths)):
        refuse(recipe, place, f"a tower that takes {edge.via} edges", str(spec), ())
    source = towers[layout.groups[edge.src].tower].spec
    width = read_width(source, edge.tap)
    if edge.via == "cross" and width not in widths:
        expected = f"context_width {width}, the width of the tower that is read"
        refuse(recipe, place, expected, " and ".join(str(width) for width in widths if width), ())
    if isinstance(spec, MolmoExpert) and edge.via == "cross":
        read = source.geometry
        if edge.tap is not None or (read.depth, read.kv_heads * read.head_dim) != (spec.depth, spec.key_width):
            expected = f"keys {spec.key_width} wide of {spec.depth} layers, without a tap"
            got = f"{read.kv_heads * read.head_dim} of {read.depth}, tap {edge.tap}"
            refuse(recipe, place, expected, got, ())
    for other, group in layout.groups.items():
        if group.tower == tower and replace(edge, dst=other) not in layout.edges:
            refuse(recipe, place, f"the same edge from every group of tower {tower!r}", f"none from {other}", ())


def _check_mapped(recipe: Checked, edge: Edge, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """A layer that maps the keys it reads has none of its own tower, and its maps learn from what they read."""
    tower = layout.groups[edge.dst].tower
    spec = towers[tower].spec
    if not isinstance(spec, SmolExpert) or edge.via != "joint":
        return
    mapping = [layer for layer in range(spec.depth) if spec.maps_keys(layer)]
    layers = range(spec.depth) if edge.layers is None else edge.layers
    place = f"edge {edge.dst} <- {edge.src}"
    if layout.groups[edge.src].tower == tower and set(mapping) & set(layers):
        refuse(recipe, f"{place}, layers", f"none of {mapping}, which read other towers", str(edge.layers), ())
    if not edge.grad:
        refuse(recipe, place, f"a gradient: tower {tower!r} maps what it reads", "a cut edge", ())


def _check_cuts(recipe: Checked, layout: Layout) -> None:
    """A cut edge means that no gradient of ``dst`` reaches ``src``: every other path must be cut as well."""
    for cut in [edge for edge in layout.edges if not edge.grad]:
        frontier, reached = [cut.dst], {cut.dst}
        while frontier:
            dst = frontier.pop()
            for edge in layout.edges:
                if edge.dst == dst and edge.grad and not layout.showing(edge) and edge.src not in reached:
                    reached.add(edge.src)
                    frontier.append(edge.src)
        if cut.src in reached - {cut.dst}:
            refuse(
                recipe,
                f"edge {cut.dst} <-| {cut.src}",
                "every path between the two cut",
                "another path that carries gradient",
                (),
            )


def _check_coupled(recipe: Checked, layout: Layout) -> None:
    """Blocks are whole; coupled streams have levels to share, and as many blocks; none is in two sets."""
    for name, per_block in layout.clock.tokens_per_block:
        codec = recipe.stage.stream(name).codec
        for view in recipe.stage.stream(name).views:
            num = codec.num_tokens(view.kind)
            if view.kind != "now" and num % per_block:
                refuse(recipe, f"clock, {name}", f"whole blocks of {per_block} tokens", f"{num} tokens", ())
        if (
            isinstance(recipe.stage.stream(name).objective, Flow | Diffusion)
            and per_block % layout.clock.levels_per_block
        ):
            expected = f"blocks that {layout.clock.levels_per_block} levels divide"
            refuse(recipe, f"clock, {name}", expected, f"{per_block} tokens", ())
    flows = {stream.name: stream for stream in recipe.stage.streams if isinstance(stream.objective, Flow | Diffusion)}
    seen: set[str] = set()
    for names in recipe.stage.coupled:
        for name in names:
            if name not in flows or name in seen:
                refuse(recipe, "coupled", "streams with a Flow or Diffusion objective, each once", repr(name), flows)
            seen.add(name)
        processes = {name: getattr(flows[name].objective, "process", None) for name in names}
        if len({process and process.num_steps for process in processes.values()}) > 1:
            refuse(recipe, "coupled", "one Flow or as many discrete steps for all", str(processes), ())
        blocks = {name: layout.clock.num_blocks(name, flows[name].codec.num_tokens("noised")) for name in names}
        if len(set(blocks.values())) > 1:
            refuse(recipe, "coupled", "streams with the same number of blocks", str(blocks), ())


def _check_told(recipe: Checked, layout: Layout) -> None:
    """What is told a level is observed; who tells it has levels, one for all or as many blocks of them."""
    streams = {stream.name: stream for stream in recipe.stage.streams}
    flows = [name for name, stream in streams.items() if isinstance(stream.objective, Flow | Diffusion)]
    for stream in streams.values():
        place = f"stream {stream.name}, told"
        if stream.told is None:
            continue
        if stream.told not in flows:
            refuse(recipe, place, "a stream with a Flow or Diffusion objective", repr(stream.told), flows)
        if _delays(streams[stream.told]):
            refuse(recipe, place, "a stream without delays: one level for all tokens", "delays", ())
        if "now" not in [view.kind for view in stream.views]:
            refuse(recipe, place, "a stream that is observed", stream.principal, ())
        views: tuple[tuple[str, ViewKind], ...] = ((stream.name, "now"), (stream.told, "noised"))
        own, teller = (layout.clock.num_blocks(name, streams[name].codec.num_tokens(view)) for name, view in views)
        if teller not in (1, own):
            refuse(recipe, place, f"a stream of one block or {own}", f"{stream.told} of {teller}", ())


def _check_heard(recipe: Checked, layout: Layout) -> None:
    """What is heard has one level for all its tokens and is read, so that it is there; a tower hears one thing."""
    streams = {stream.name: stream for stream in recipe.stage.streams}
    by_tower: dict[str, tuple[str, ...]] = {}
    for stream in streams.values():
        place = f"stream {stream.name}, hears"
        for name in stream.hears:
            levelled = [n for n, other in streams.items() if isinstance(other.objective, Flow | Diffusion)]
            if name not in levelled:
                refuse(recipe, place, "streams with a Flow or Diffusion objective", repr(name), levelled)
            if layout.clock.num_levels(name, streams[name].codec.num_tokens("noised")) > 1 or _delays(streams[name]):
                refuse(recipe, place, "streams with one level for all tokens", repr(name), ())
        for view in stream.views:
            group = stream.group(view.kind)
            if stream.hears and not set(layout.heard(group)) <= layout.needed([group]):
                refuse(recipe, place, f"streams that {group} reads, itself or through others", str(stream.hears), ())
        if by_tower.setdefault(stream.tower, stream.hears) != stream.hears:
            refuse(recipe, place, f"the same of all streams of tower {stream.tower}", str(stream.hears), ())


def _check_plans(recipe: Checked, layout: Layout) -> None:
    """What tells of a plan has its own kind of view, tells the numbers of its family, and does not read the plan."""
    for name, plan in recipe.stage.plans:
        for kind, reader in (("posterior", plan.posterior), ("prior", plan.prior)):
            place = f"stream {name}, {kind}"
            if reader is None:
                continue
            found = [group for group, entry in layout.groups.items() if entry.view.kind == kind]
            if reader not in found:
                refuse(recipe, place, f"a group in the {kind} view", repr(reader), found)
            codec = layout.groups[reader].stream.codec
            if not isinstance(codec, PlanQuery) or codec.family != plan.family:
                refuse(recipe, place, f"a codec that tells {plan.family}", str(codec), ())
            if name in {layout.groups[read].stream.name for read in layout.needed([reader])}:
                refuse(recipe, place, "a group that does not read the plan", repr(reader), ())
        towers = [layout.groups[group].tower for group in (plan.posterior, recipe.stage.stream(name).group("noised"))]
        for phase in recipe.phases:  # what nothing trains may be kept from before, and a plan moves with its posterior
            if towers[0] in phase.trains and towers[1] not in phase.trains:
                expected = f"tower {towers[1]!r} of the plan beside {towers[0]!r}, which tells it"
                refuse(recipe, f"phase {phase.name}, trains", expected, str(phase.trains), ())
        if plan.balance is not None and (plan.prior is None or not 0 <= plan.balance <= 1):
            refuse(recipe, f"stream {name}, balance", "a share from 0 to 1 beside a prior", f"{plan.balance:g}", ())


def _check_told_numbers(recipe: Checked) -> None:
    """What is learned by its likelihood is told by the same law."""
    for stream in recipe.stage.streams:
        law = stream.codec.law if isinstance(stream.codec, ToldActions) else None
        wanted = stream.objective.law if isinstance(stream.objective, Likelihood) else None
        if law != wanted:
            place = f"stream {stream.name}, objective"
            refuse(recipe, place, "a Likelihood exactly where a codec tells numbers, of its law", f"{wanted}", ())


def _check_phases(recipe: Checked, layout: Layout, towers: Mapping[str, Tower]) -> None:
    """A phase trains towers of this stage that its losses reach, by streams that have an objective."""
    if not recipe.phases:
        refuse(recipe, "phases", "at least one", "none", ())
    learned = [stream.name for stream in recipe.stage.streams if stream.objective is not None]
    for phase in recipe.phases:
        place = f"phase {phase.name}"
        for name in phase.losses:
            if name not in learned:
                refuse(recipe, f"{place}, losses", "a stream with an objective", repr(name), learned)
        for mode in phase.modes:
            noised = {name: isinstance(recipe.stage.stream(name).objective, Flow | Diffusion) for name in mode.given}
            unknown = [name for name, found in noised.items() if not found]
            if unknown or not mode.given or mode.share <= 0 or sum(other.share for other in phase.modes) > 1:
                expected = "streams with a Flow or Diffusion objective, in shares that add up to 1 at most"
                refuse(recipe, f"{place}, mode {mode.name}", expected, f"{mode.given}, share {mode.share:g}", ())
        for name in phase.trains:
            if name not in towers:
                refuse(recipe, f"{place}, trains", "a tower of this stage", repr(name), towers)
        reached = {layout.groups[name].tower for name in layout.needed(recipe.stage.owing(phase.losses))}
        if not phase.trains or not set(phase.trains) <= reached:
            got = f"trains {list(phase.trains)}, losses reach {sorted(reached)}"
            refuse(recipe, place, "at least one tower, each reached by a loss", got, ())


def _check_posteriors(recipe: Checked, layout: Layout) -> None:
    """What reads the future must not be needed to act."""
    reached = layout.needed(recipe.stage.outputs())
    posteriors = {name for name, group in layout.groups.items() if group.view.kind == "posterior"}
    if reached & posteriors:
        refuse(recipe, "schedule", "no posterior needed to act", str(sorted(reached & posteriors)), ())
