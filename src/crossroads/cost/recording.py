"""What a dataset makes of a recipe's cost: how many windows an epoch has, and how long the instructions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossroads.codecs.prompt import NUM_BINS, PromptTokens
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.text import TextTokens
from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.errors import InputError
from crossroads.recipe import Recipe
from crossroads.streams import Stream


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A dataset as one phase of a recipe is trained on it."""

    path: str
    episodes: int
    """That the phase can use: those with actions, and action-free ones where a video is learned."""
    frames: int
    samples: int
    """Windows of one epoch: chunks that lie wholly inside their episode, and one of each shorter episode."""
    words: int
    """Of the longest instruction."""
    text_tokens: Mapping[str, int]
    """Tokens of the longest instruction, by stream; without a stream whose tokeniser is not at hand."""


def recording(dataset: LeRobotDataset, recipe: Recipe, phase: str | None) -> Recording:
    """Count a dataset for one phase of a recipe (None: its first).

    Raises:
        InputError: no episode can be used, or an instruction is longer than the recipe reads.
    """
    losses = (recipe.phases[0] if phase is None else recipe.phase(phase)).losses
    learned = [recipe.stage.stream(name) for name in losses]
    video = any(stream.carries == "video" or stream.labelled_by for stream in learned)
    chosen = [episode for episode in dataset.episodes if video or not episode.action_free]
    if not chosen:
        raise InputError(
            where=str(dataset.path), expected="episodes with actions", got="none", do="Record or add labelled episodes."
        )
    texts = instructions(dataset, chosen)
    chunk = round(recipe.window.chunk_s * dataset.fps)
    counted = {
        stream.name: longest(stream, texts)
        for stream in recipe.stage.streams
        if isinstance(stream.codec, TextTokens)
        and not stream.codec.answer
        and not isinstance(stream.codec.vocabulary, PretrainedVocabulary)
    }
    return Recording(
        path=str(dataset.path),
        episodes=len(chosen),
        frames=sum(episode.length for episode in chosen),
        samples=sum(max(1, episode.length - chunk) for episode in chosen),
        words=max(len(text.split()) for text in texts),
        text_tokens=counted,
    )


def instructions(dataset: LeRobotDataset, episodes: Sequence[Episode]) -> tuple[str, ...]:
    """Every instruction that some frames of these episodes have."""
    tasks = {int(task) for episode in episodes for task in np.unique(dataset.tables.task_index[episode.rows])}
    return tuple(dataset.tasks[task] for task in sorted(tasks))


def longest(stream: Stream, texts: Sequence[str]) -> int:
    """Tokens of the longest text; a batch is padded to the longest that is in it."""
    codec = stream.codec
    assert isinstance(codec, TextTokens)
    lengths = {text: max(1, len(codec.vocabulary.encode(_read(codec, text)))) for text in texts}
    text = max(lengths, key=lambda text: lengths[text])
    if lengths[text] > codec.max_tokens:
        raise InputError(
            where=f"stream {stream.name!r}",
            expected=f"at most {codec.max_tokens} tokens",
            got=f"{lengths[text]} in {text!r}",
            do="Shorten the text, or raise max_tokens of the recipe's text stream.",
        )
    return lengths[text]


def _read(codec: TextTokens, text: str) -> str:
    """What is read of an instruction: with numbers of three digits, if the state is written into it."""
    return codec.prompt(text, [NUM_BINS - 1] * codec.num_state) if isinstance(codec, PromptTokens) else text
