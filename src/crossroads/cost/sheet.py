"""The cost sheet of one recipe at one size: training, acting, memory, hours, energy, money, and the floor of latency.

Everything follows from the recipe and stated inputs; nothing is measured and no price is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crossroads.codecs.text import TextTokens
from crossroads.cost.amounts import Flops, Parameters
from crossroads.cost.flops import Work, flops, parameters
from crossroads.cost.latency import LatencyFloor, latency_floor
from crossroads.cost.memory import ActingMemory, TrainingMemory, acting_memory, training_memory
from crossroads.cost.price import Accelerator, Price, price
from crossroads.cost.recording import Recording
from crossroads.errors import InputError
from crossroads.recipe import Recipe
from crossroads.stage import Phase


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much is trained; at most one of the three, and ``epochs`` needs a dataset. None of them: one epoch of the
    dataset, or nothing without one."""

    steps: int | None = None
    samples: int | None = None
    epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """A whole run: so many samples in so many steps, and its bill."""

    samples: int
    steps: int
    because: str
    bill: Price


@dataclass(frozen=True, kw_only=True)
class CostSheet:
    """What one phase of a recipe costs to train, and what the recipe costs to run, on one device."""

    recipe: Recipe
    size: str
    phase: Phase
    on: Accelerator
    tokens: Mapping[str, int]
    """By group, as counted."""
    text: str
    """Where the length of the text comes from."""
    parameters: Parameters
    flops: Flops
    training_memory: TrainingMemory
    acting_memory: ActingMemory
    latency: LatencyFloor
    recording: Recording | None
    training: Training | None

    @property
    def act_flop(self) -> int:
        """Of one chunk, without decoding what was imagined."""
        return self.flops.act.total - self.flops.act.decode

    def plain(self) -> dict[str, Any]:
        """The sheet as plain values, for JSON."""
        trained, cached = self.flops.train[self.phase.name], self.flops.train_cached[self.phase.name]
        memory, acting, floor = self.training_memory, self.acting_memory, self.latency
        return {
            "recipe": self.recipe.name,
            "size": self.size,
            "phase": self.phase.name,
            "hardware": asdict(self.on),
            "tokens": dict(self.tokens),
            "text": self.text,
            "parameters": {
                "total": self.parameters.total,
                "trained": self.parameters.trained[self.phase.name],
                "parts": dict(self.parameters.parts),
            },
            "training": {
                "flop_per_sample": trained.total,
                "forward_flop_per_sample": trained.forward,
                "backward_flop_per_sample": trained.backward,
                "flop_per_sample_from_cached_features": cached.total,
                "memory_bytes": {**asdict(memory), "total": memory.total},
                "recording": None if self.recording is None else asdict(self.recording),
                "run": None if self.training is None else _run(self.training),
            },
            "acting": {
                "flop_per_chunk": self.act_flop,
                "flop_to_decode_imagined_frames": self.flops.act.decode,
                "memory_bytes": {**asdict(acting), "total": acting.total},
                "weight_bytes_read_per_chunk": floor.weight_bytes,
                "latency_floor": {
                    "compute_s": floor.compute_s,
                    "bandwidth_s": floor.bandwidth_s,
                    "floor_s": floor.floor_s,
                    "chunk_s": self.recipe.window.chunk_s,
                    "passes": [{**asdict(one), "floor_s": one.floor_s} for one in floor.passes],
                },
            },
        }


def _run(training: Training) -> dict[str, Any]:
    bill = training.bill
    return {
        "samples": training.samples,
        "steps": training.steps,
        "because": training.because,
        "flop": bill.flop,
        "device_hours": bill.device_hours,
        "kwh": bill.kwh,
        "money": bill.money,
    }


def cost_sheet(
    recipe: Recipe,
    size: str,
    on: Accelerator,
    *,
    phase: str | None,
    batch_size: int,
    amount: Amount,
    dataset: Recording | None,
    text_tokens: int | None,
) -> CostSheet:
    """The sheet of a recipe. ``phase`` None: its first. ``text_tokens``: how long the instruction is, where you know.

    Raises:
        InputError: an option that contradicts another or the recipe.
    """
    chosen = recipe.phases[0] if phase is None else recipe.phase(phase)
    lengths, text = text_lengths(recipe, dataset, text_tokens)
    work, found, counted = Work(stage=recipe.stage, tokens=lengths), parameters(recipe), flops(recipe, tokens=lengths)
    return CostSheet(
        recipe=recipe,
        size=size,
        phase=chosen,
        on=on,
        tokens={name: work.num(name) for name in recipe.stage.layout.groups},
        text=text,
        parameters=found,
        flops=counted,
        training_memory=training_memory(chosen, work, found, batch_size=batch_size),
        acting_memory=acting_memory(work, found),
        latency=latency_floor(recipe, work, counted, on),
        recording=dataset,
        training=_training(amount, dataset, batch_size, counted.train[chosen.name].total, on),
    )


def text_lengths(recipe: Recipe, dataset: Recording | None, stated: int | None) -> tuple[dict[str, int], str]:
    """How many tokens each instruction has, by stream, and in words where that comes from.

    Raises:
        InputError: ``stated`` is longer than the recipe reads, or the recipe always reads the same length.
    """
    streams = {stream.name: stream for stream in recipe.stage.streams if stream.carries == "text"}
    told = {
        name: stream.codec.max_tokens
        for name, stream in streams.items()
        if isinstance(stream.codec, TextTokens) and not stream.codec.answer
    }
    if stated is not None:
        longest = min(told.values(), default=0)
        if not 1 <= stated <= longest:
            expected = f"1 to {longest} tokens" if told else "a recipe whose instructions vary in length"
            got = str(stated) if told else f"{recipe.name}, whose text is always read to its full length"
            raise InputError(where="--text-tokens", expected=expected, got=got, do="Change it or leave it out.")
        return dict.fromkeys(told, stated), "as stated by --text-tokens"
    if dataset is not None and told and told.keys() == dataset.text_tokens.keys():
        return dict(dataset.text_tokens), "the longest instruction of the dataset, to which batches are padded"
    if dataset is not None and told:
        return {}, (
            f"the most that is read: the tokeniser is not loaded here (the longest instruction has {dataset.words} "
            "words; --text-tokens states another length)"
        )
    return {}, "the most that is read" if streams else "none: no words are read"


def _training(
    amount: Amount, dataset: Recording | None, batch_size: int, flop: int, on: Accelerator
) -> Training | None:
    given = {name: value for name, value in asdict(amount).items() if value is not None}
    if len(given) > 1:
        raise InputError(
            where="crossroads cost",
            expected="one of --steps, --samples and --epochs",
            got=" and ".join(f"--{name} {value}" for name, value in given.items()),
            do="Keep one of them.",
        )
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise InputError(
                where=f"crossroads cost, --{name}", expected="more than 0", got=str(value), do="Change it."
            )
    if amount.epochs is not None and dataset is None:
        raise InputError(
            where="crossroads cost, --epochs",
            expected="a dataset to go through",
            got="no --data",
            do="Add --data DIR, or state --samples.",
        )
    if amount.steps is not None:
        samples, because = amount.steps * batch_size, f"{amount.steps:,} steps of {batch_size}"
    elif amount.samples is not None:
        samples, because = amount.samples, "as stated by --samples"
    elif dataset is not None:
        epochs = 1.0 if amount.epochs is None else amount.epochs
        samples, because = math.ceil(epochs * dataset.samples), f"{epochs:g} epoch(s) of {dataset.path}"
    else:
        return None
    return Training(
        samples=samples, steps=math.ceil(samples / batch_size), because=because, bill=price(samples * flop, on)
    )
