"""Bytes that training and acting hold on one device, unsharded: stated formulas over parameters, tokens and precision.

Precisions are those of ``crossroads train``: weights, gradients, AdamW's two moments (Loshchilov & Hutter 2019,
arXiv 1711.05101) and the running average in float32; on a GPU matrix products run in bfloat16, from copies of the
weights that live until the backward pass. All terms are added up, which is an upper bound: gradients arrive while
activations leave. Left out: the workspace of kernels, fragmentation, what a frozen autoencoder holds while it encodes,
a frozen language encoder (its states are computed once per instruction).
"""

from __future__ import annotations

from dataclasses import dataclass

from crossroads.cost.activations import saved_by_training, widest_layer
from crossroads.cost.amounts import Parameters
from crossroads.cost.flops import Work
from crossroads.cost.kept import Kept
from crossroads.cost.latency import ACTING_BYTES
from crossroads.cost.passes import answer_weights, embedding_weights, legs_of
from crossroads.errors import InputError
from crossroads.stage import Phase
from crossroads.towers.classic import Classic


@dataclass(frozen=True, kw_only=True)
class Precision:
    """In what matrix products run while training; everything that lasts is float32."""

    name: str
    product_bytes: int


MIXED = Precision(name="bfloat16", product_bytes=2)
"""What ``crossroads train`` does on a GPU (autocast)."""
FLOAT32 = Precision(name="float32", product_bytes=4)
"""What it does on a CPU."""


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of one phase at one batch size."""

    batch_size: int
    weights: int
    gradients: int
    moments: int
    average: int
    copies: int
    """Of weights in the precision of the products; 0 where that is float32."""
    activations: int

    @property
    def total(self) -> int:
        lasting = self.weights + self.gradients + self.moments + self.average
        return lasting + self.copies + self.activations


@dataclass(frozen=True, kw_only=True)
class ActingMemory:
    """Bytes of one ``act`` call at batch 1, in bfloat16."""

    weights: int
    cache: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.activations


TRAINING_FORMULAS = {
    "weights": "4 B x all parameters",
    "gradients": "4 B x trained parameters",
    "moments": "2 x 4 B x trained parameters (AdamW)",
    "average": "4 B x trained parameters (running average of the weights)",
    "copies": "2 B x weights of products that gradients pass",
    "activations": "batch x what eager autograd saves of a sample; attention keeps no scores; no recomputation",
}
ACTING_FORMULAS = {
    "weights": "2 B x all parameters",
    "cache": "2 B x (2 x key-value heads x head size x layers + width) x tokens that are read",
    "activations": "2 B x one layer of the widest pass (4 B for its norms)",
}


def training_memory(
    phase: Phase, work: Work, found: Parameters, *, batch_size: int, precision: Precision = MIXED
) -> TrainingMemory:
    """What one phase of a recipe holds.

    Raises:
        InputError: the batch size is not positive, or a tower is of a kind whose activations are not described.
    """
    if batch_size < 1:
        raise InputError(
            where="training memory",
            expected="a batch of at least 1",
            got=str(batch_size),
            do="Give another batch size.",
        )
    trained = found.trained[phase.name]
    copied = product_weights(phase, work) if precision.product_bytes != FLOAT32.product_bytes else 0
    return TrainingMemory(
        batch_size=batch_size,
        weights=4 * found.total,
        gradients=4 * trained,
        moments=8 * trained,
        average=4 * trained,
        copies=precision.product_bytes * copied,
        activations=batch_size * saved_by_training(phase, work).bytes(precision.product_bytes),
    )


def product_weights(phase: Phase, work: Work) -> int:
    """Weights of matrix products through which gradients of a phase pass, of trained and of frozen towers."""
    layout = work.layout
    owing = work.stage.owing(phase.losses)
    needed = layout.needed(owing)
    fixed = layout.stable([name for name, group in layout.groups.items() if group.tower in phase.trains])
    moving = [layout.groups[name] for name in sorted(needed - fixed)]
    towers = {group.tower for group in moving}
    total = sum(work.specs[tower].num_parameters() + work.modulators(tower) for tower in towers)
    codecs = {group.stream.shares or group.stream.name: embedding_weights(group, work.width(group)) for group in moving}
    answers = [layout.groups[name] for name in owing]
    total -= sum(_of_frozen_states(tower, needed - fixed, work) for tower in towers)
    return total + sum(codecs.values()) + sum(answer_weights(group, work.width(group)) for group in answers)


def _of_frozen_states(tower: str, moving: frozenset[str], work: Work) -> int:
    """Weights of a decoder's keys and values that read states which take no gradient: no copy of them is kept."""
    spec = work.specs[tower]
    edges = [edge for edge in work.layout.edges if edge.via == "cross" and work.layout.groups[edge.dst].tower == tower]
    if not isinstance(spec, Classic) or any(edge.src in moving and edge.grad for edge in edges):
        return 0
    return 2 * spec.depth * spec.width * spec.context_width


def acting_memory(work: Work, found: Parameters) -> ActingMemory:
    """What acting holds: weights, the states of every group that ran, and the widest layer of a pass."""
    legs = legs_of(work.stage)
    ran = frozenset[str]().union(*(leg.once | leg.running for leg in legs))
    blank = frozenset[str]().union(*(leg.blank_once | leg.blank for leg in legs))
    unasked = frozenset[str]().union(*(work.unasked(names) for leg in legs for names in (leg.once, leg.blank_once)))
    layers = [widest_layer(names, work.beside(leg.imagined)) for leg in legs for names in (leg.once, leg.running)]
    work = work.beside(frozenset[str]().union(*(leg.imagined for leg in legs)))
    return ActingMemory(
        weights=ACTING_BYTES * found.total,
        cache=ACTING_BYTES * sum(state_numbers(name, work, name not in unasked) for name in (*ran, *blank)),
        activations=max((kept.bytes(ACTING_BYTES) for kept in layers), default=Kept().bytes(ACTING_BYTES)),
    )


def state_numbers(name: str, work: Work, answers: bool = True) -> int:
    """How many numbers one group leaves behind: keys and values of all layers, final hidden states where it
    ``answers``."""
    group = work.layout.groups[name]
    heads = work.specs[group.tower].geometry
    return work.num(name) * (2 * heads.depth * heads.kv_heads * heads.head_dim + answers * work.width(group))
