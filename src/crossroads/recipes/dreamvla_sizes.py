"""DreamVLA's sizes: Seer's observed steps, what is foreseen at each, and the head that acts."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.foreseen import FuturePatches
from crossroads.codecs.knowledge import EncoderStates, FutureFeatures, Orientations
from crossroads.codecs.step_actions import StepActions, StepQueries
from crossroads.diffusion import CosineBetas, Process
from crossroads.recipes import foresight_sizes as sizes
from crossroads.recipes import nano, seer
from crossroads.towers.cognition import CognitionHead

PROCESS = Process(betas=CosineBetas(), num_steps=100)
COSINE_WEIGHT = 0.01
"""Of 1 less the cosine between rows."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """One kind of it, and how much its squared error counts."""

    name: str
    codec: FuturePatches
    weight: float


@dataclass(frozen=True, kw_only=True)
class DreamVlaSize:
    """What differs between sizes; ``observed``: Seer's, of which the actions are not asked for."""

    observed: sizes.ForesightSize
    knowledge: tuple[Knowledge, ...]
    cognition: StepQueries
    action: StepActions
    head: CognitionHead
    denoising_steps: int
    departs: tuple[str, ...]


def semantics(told_by: Orientations | EncoderStates, pixels: FuturePatches) -> Knowledge:
    """What an encoder will say, asked for as pixels are; the squared distance of rows of length 1 is twice what their
    cosine lacks of 1, spread over their numbers."""
    same = {name: value for name, value in vars(pixels).items() if name != "told_by"}
    codec = FutureFeatures(**same, told_by=told_by)
    return Knowledge(name="semantics", codec=codec, weight=COSINE_WEIGHT * told_by.size / 2)


assert seer.NANO.video is not None
assert seer.PUBLISHED.video is not None
DEPARTS = (
    "Foreseen are pixels and states of one encoder; published adds depth (Depth Anything) and SAM's features, and "
    "weighs pixels by where CoTracker sees motion.",
    "No guidance: the head's condition is never dropped, and actions are denoised once; published drops it in a tenth "
    "of the samples and adds half of the difference (scale 1.5).",
    "Each step is noised once per sample; published draws eight times for each.",
)
NANO = DreamVlaSize(
    observed=seer.NANO,
    knowledge=(
        Knowledge(name="video", codec=seer.NANO.video, weight=0.1),
        semantics(Orientations(cell=8), seer.NANO.video),
    ),
    cognition=StepQueries(num=3, steps=sizes.NANO_STEPS),
    action=StepActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        normaliser="min_max",
        steps=sizes.NANO_STEPS,
    ),
    head=CognitionHead(
        width=96, mlp=384, depth=2, heads=4, slots=3, num_actions=nano.NUM_ACTIONS, context_width=sizes.WIDTH
    ),
    denoising_steps=nano.DENOISING_STEPS,
    departs=(
        *sizes.NANO_DEPARTS,
        *DEPARTS,
        "At nano size the encoder is histograms of oriented gradients, and 12 actions are denoised in 5 steps, of "
        "which 6 are executed; published has DINOv2, three actions and 10 steps, and executes one.",
    ),
)

WIDE = replace(seer.PUBLISHED.tower, width=1024, mlp=4096, heads=16)
PUBLISHED = DreamVlaSize(  # CALVIN, fine-tuned
    observed=replace(seer.PUBLISHED, tower=WIDE),
    knowledge=(
        Knowledge(name="video", codec=seer.PUBLISHED.video, weight=0.1),
        semantics(EncoderStates(source="facebook/dinov2-base", size=768), seer.PUBLISHED.video),
    ),
    cognition=StepQueries(num=3, steps=sizes.steps(10)),
    action=StepActions(
        num_actions=3, action_size=7, control_hz=sizes.CALVIN_HZ, normaliser="min_max", steps=sizes.steps(10)
    ),
    head=CognitionHead(width=768, mlp=3072, depth=12, heads=12, slots=3, num_actions=3, context_width=WIDE.width),
    denoising_steps=10,
    departs=(
        *sizes.PUBLISHED_DEPARTS,
        *DEPARTS,
        "The head's last map starts at random instead of zero.",
    ),
)
