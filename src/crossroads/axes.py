"""The three axes of a design, computed from its structure and never declared.

Paradigm: the path of the schedule through the cube of noise levels (future first, on one leg with the action, never
moved). Architecture: the kind of edge between towers. Integration: the codec of the action stream.
"""

from __future__ import annotations

from crossroads.codecs.frame_features import FrameFeatures
from crossroads.codecs.target_pictures import TargetPictures
from crossroads.recipe import Architecture, Axes, Integration, Paradigm, Recipe
from crossroads.schedule import moved


def computed(recipe: Recipe) -> Axes:
    """The axes that a recipe's structure says."""
    return Axes(paradigm=_paradigm(recipe), architecture=_architecture(recipe), integration=_integration(recipe))


def imagines(recipe: Recipe) -> bool:
    """Whether the policy makes future frames before, or while, it acts; features of frames are no frames."""
    futures = [stream for stream in recipe.stage.streams if stream.carries == "video" and stream.objective is not None]
    frames = any(not isinstance(stream.codec, FrameFeatures) for stream in futures)
    return frames and _paradigm(recipe) in ("inverse_dynamics", "joint_prediction")


def _paradigm(recipe: Recipe) -> Paradigm:
    stage = recipe.stage
    drawn = [stream for stream in stage.streams if stream.objective is not None]
    future = {stream.name for stream in drawn if stream.carries in ("image", "video")}
    action = {stream.name for stream in stage.streams if stream.carries == "action" and stream.objective is not None}
    if not future:
        return "no_future"
    read = [stage.layout.groups[name] for name in stage.layout.needed(sorted(action), shown=True)]
    read_to_act = {group.stream.name for group in read if group.view.kind != "now"}
    settled: set[str] = set()
    for leg in stage.schedule:
        now = set(moved(leg))
        if now & action and now & future:
            return "joint_prediction"
        if now & action and settled & future & read_to_act:
            return "inverse_dynamics"
        settled |= now
    return "representation_only" if action else "no_future"


def _architecture(recipe: Recipe) -> Architecture:
    """The text encoder of a video model is a frozen reader of words, not a second policy tower, and is not counted."""
    stage = recipe.stage
    groups = stage.layout.groups
    words = {stream.tower for stream in stage.streams if stream.carries == "text"}
    words -= {stream.tower for stream in stage.streams if stream.carries != "text"}
    words |= {tower.name for tower in stage.towers if not tower.spec.geometry.depth}  # frozen readers of images
    towers = {group.tower for group in groups.values()} - words
    if len(towers) == 1:
        return "monolithic"
    joined = {
        frozenset((groups[edge.dst].tower, groups[edge.src].tower))
        for edge in stage.layout.edges
        if edge.via == "joint"
    }
    return "mixture_of_transformers" if any(len(pair) == 2 for pair in joined) else "hierarchical"


def _integration(recipe: Recipe) -> Integration:
    actions = [stream for stream in recipe.stage.streams if stream.carries == "action" and stream.objective is not None]
    if not actions:
        return "none"
    read = recipe.stage.layout.needed([stream.name for stream in actions], shown=True)
    if any(isinstance(recipe.stage.layout.groups[name].stream.codec, TargetPictures) for name in read):
        return "image"
    kinds: dict[str, Integration] = {
        **{"ActionQueries": "tokens", "ActionTokens": "tokens", "ActionSlices": "tokens", "DiscreteActions": "tokens"},
        **{"BlankActions": "tokens", "ScaledActions": "tokens", "StepActions": "tokens", "HeldActions": "tokens"},
        **{"BareActions": "tokens", "ChunkToken": "tokens", "SoftActions": "tokens", "ToldActions": "tokens"},
        **{"ActionFrame": "image", "ActionLatent": "latent"},
    }
    return kinds[type(actions[0].codec).__name__]
