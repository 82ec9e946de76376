"""The vision-language-action baseline: pi0.5 with knowledge insulation and real-time chunking learned in training.

Driess et al. 2025, arXiv 2505.23705 (knowledge insulation); OpenTau's pi05 (Apache-2.0); arXiv 2512.05964 (chunks that
begin before the last one ends). The language model learns to write subtasks, answers and actions as FAST tokens; the
flow expert reads its image, prompt and subtask without a gradient, and never the FAST tokens, which are not run to act.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from crossroads.codecs.discrete_actions import DiscreteActions
from crossroads.codecs.fast import Fast
from crossroads.codecs.text import NUM_BYTES, NUM_SPECIAL
from crossroads.recipe import Recipe
from crossroads.recipes import nano, pi05_sizes
from crossroads.recipes.pi05 import pi05
from crossroads.recipes.pi05_sizes import Pi05Size
from crossroads.stage import Phase
from crossroads.streams import NOISED, Edge, Stream, reads


@dataclass(frozen=True, kw_only=True)
class BaselineKiSize:
    """What differs between sizes: those of pi0.5, and the actions in words."""

    pi05: Pi05Size
    fast: DiscreteActions
    departs: tuple[str, ...]


DEPARTS = (
    "The first token of actions in words is predicted from a start mark of its own, not from the last words before it; "
    "its embeddings and scores are the language model's, as the paper has it (OpenTau has a table and a head of its "
    "own).",
    "One noise is drawn for a sample and step, though several would share one pass of the language model.",
    "Cross-entropies are means over each sample's own tokens (OpenTau divides by padded slots, too), one for subtasks "
    "and one for actions.",
    "A text-only sample's other cameras are black and read.",
)


def delays_upto(most: int) -> tuple[float, ...]:
    """Half of the samples are given no action; the others 0 to ``most``, alike often."""
    return (most + 2.0, *(1.0,) * most)


NANO = BaselineKiSize(
    pi05=replace(pi05_sizes.NANO, action_flow=replace(nano.ACTION_FLOW, delays=delays_upto(4))),
    fast=DiscreteActions(
        num_actions=nano.NUM_ACTIONS,
        action_size=nano.ACTION_SIZE,
        control_hz=nano.CONTROL_HZ,
        tokeniser=Fast(size=192),
        vocabulary=nano.VOCABULARY,
        last=NUM_SPECIAL + NUM_BYTES - 1,  # bytes that spell no digit: 192 of them are the last ones
        normaliser="min_max",  # so that a chunk has at most 70 different coefficients, whatever the data
    ),
    departs=(
        *DEPARTS,
        *pi05_sizes.DEPARTS,
        *pi05_sizes.NANO_DEPARTS,
        "At nano size tokens of actions take over pieces that spell bytes, and are fitted on the labelled data, 192 of "
        "them; they are scaled by their least and greatest, not by quantiles.",
        "At nano size at most 4 steps are given, as in the paper's simulator, all alike often.",
    ),
)

PUBLISHED = BaselineKiSize(
    pi05=replace(
        pi05_sizes.PUBLISHED,
        action_flow=replace(pi05_sizes.PUBLISHED.action_flow, weight=1.0, delays=delays_upto(10)),  # 200 ms at 50 Hz
    ),
    fast=DiscreteActions(
        num_actions=50,
        action_size=32,
        control_hz=50.0,
        tokeniser=Fast(size=2048, source="physical-intelligence/fast"),
        vocabulary=pi05_sizes.VOCABULARY,
        last=pi05_sizes.VOCABULARY.size - 1 - 128,  # the very last 128 pieces are left alone
        after="|",
        most=256,
    ),
    departs=(
        *DEPARTS,
        *pi05_sizes.DEPARTS,
        "Weights start at random until PaliGemma's are imported (crossroads.recipes.names); the paper's are not "
        "public.",
        "Actions arrive padded to 32 numbers; the data must pad them and must make joint actions relative to the first "
        "state, as openpi's data transforms do. The prompt holds the 8 numbers of a single arm's state.",
        "Every camera must be there; images are not augmented in training.",
        "A prompt of more than 200 tokens or a chunk of more than 256 is refused, not cut off.",
    ),
)


def baseline_ki(size: BaselineKiSize = NANO) -> Recipe:
    """The baseline at one of its sizes: pi0.5, its expert behind cut edges, with actions in words beside it."""
    base = pi05(size.pi05)
    fast = Stream(
        name="fast",
        carries="action",
        codec=size.fast,
        tower="language",
        views=(NOISED,),
        objective=size.pi05.next_token,
        shares="text",
    )
    insulated = tuple(replace(edge, grad=edge.dst != "action" or edge.src == "action") for edge in base.stage.edges)
    stage = replace(
        base.stage,
        streams=(*base.stage.streams, fast),
        edges=(*insulated, *reads("fast", "image", "text", "subtask"), Edge(dst="fast", src="fast", when="causal")),
        sequence=("image", "text", "subtask", "fast", "action"),
    )
    return replace(
        base,
        name="baseline_ki",
        paper="Driess et al. 2025, arXiv 2505.23705",
        stage=stage,
        phases=(
            Phase(name="full", trains=("language", "expert"), losses=("subtask", "fast", "action")),
            Phase(name="words", trains=("language",), losses=("subtask", "fast")),
            Phase(name="head", trains=("expert",), losses=("action",)),
        ),
        departs=size.departs,
    )
