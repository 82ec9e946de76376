"""What a LeRobotDataset says in words beside its instructions: subtasks, and questions about pictures with answers.

The columns are those of LeRobot 0.6.1 (Apache-2.0; ``datasets/language.py`` and the writer of its annotation pipeline),
read, not copied. ``language_persistent`` holds, at every frame of an episode alike, rows that stay true from their
time on (style ``subtask``); ``language_events`` holds what is said at one frame: a question (style ``vqa``, role
``user``) and its answer (role ``assistant``) about the picture of one camera.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from crossroads.data import meta
from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.types import Batch, Observation, Window

PERSISTENT, EVENTS = "language_persistent", "language_events"
FEATURE: Mapping[str, Any] = {"dtype": "language", "shape": [1], "names": None}
_FIELDS = [("role", pa.string()), ("content", pa.string()), ("style", pa.string())]
_WHERE = [("camera", pa.string()), ("tool_calls", pa.list_(pa.string()))]
_TYPES = {
    PERSISTENT: pa.list_(pa.struct([*_FIELDS, ("timestamp", pa.float32()), *_WHERE])),
    EVENTS: pa.list_(pa.struct([*_FIELDS, *_WHERE])),
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about what one camera shows at one frame of an episode."""

    frame: int
    camera: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class EpisodeWords:
    """What is said about one episode."""

    subtasks: tuple[tuple[float, str], ...] = ()
    """From which second on which subtask is done; in order of time."""
    questions: tuple[Question, ...] = ()

    def subtask_at(self, time_s: float) -> str:
        """The subtask of a moment; empty where none has begun."""
        begun = [text for start, text in self.subtasks if start <= time_s + 1e-4]  # times are float32
        return begun[-1] if begun else ""

    def columns(self, length: int, fps: float) -> dict[str, pa.Array]:
        """The two columns of an episode of so many frames."""
        lasting = [_row("assistant", text, "subtask") | {"timestamp": start} for start, text in self.subtasks]
        events: list[list[dict[str, Any]]] = [[] for _ in range(length)]
        for asked in self.questions:
            camera = {"camera": meta.CAMERA_PREFIX + asked.camera}
            events[asked.frame] += [
                _row("user", asked.question, "vqa") | camera,
                _row("assistant", asked.answer, "vqa") | camera,
            ]
        said: dict[str, list[list[dict[str, Any]]]] = {PERSISTENT: [lasting] * length, EVENTS: events}
        return {name: pa.array(rows, _TYPES[name]) for name, rows in said.items()}


NOTHING_SAID = EpisodeWords()


def _row(role: str, content: str, style: str) -> dict[str, Any]:
    return {"role": role, "content": content, "style": style, "camera": None, "tool_calls": None}


def says(dataset: LeRobotDataset) -> bool:
    """Whether a data set has the columns at all."""
    return all(name in dataset.info["features"] for name in (PERSISTENT, EVENTS))


def read_words(dataset: LeRobotDataset) -> tuple[EpisodeWords, ...]:
    """What is said about each episode, in order.

    Raises:
        InputError: the data set has no such columns, or a question names a camera that it lacks.
    """
    if not says(dataset):
        raise InputError(
            where=str(dataset.path),
            expected=f"columns {PERSISTENT} and {EVENTS}",
            got="neither, or one of them",
            do="Annotate it with lerobot-annotate, or record with `crossroads data record tabletop --words`.",
        )
    lasting: dict[int, tuple[tuple[float, str], ...]] = {}
    asked: dict[int, list[Question]] = {}
    cameras = {key: name for name, key in dataset.camera_keys.items()}
    for chunk, file in dataset.data_files.distinct():
        path = dataset.path / dataset.info["data_path"].format(chunk_index=chunk, file_index=file)
        table = meta.read_table(path, ["episode_index", "frame_index", PERSISTENT, EVENTS])
        episodes, frames = (table[name].to_numpy() for name in ("episode_index", "frame_index"))
        firsts = np.flatnonzero(frames == 0)
        for episode, rows in zip(episodes[firsts], table[PERSISTENT].take(firsts).to_pylist(), strict=True):
            lasting[int(episode)] = _subtasks(rows or [])
        told = np.flatnonzero(np.diff(table[EVENTS].combine_chunks().offsets.to_numpy()) > 0)
        for row, rows in zip(told, table[EVENTS].take(told).to_pylist(), strict=True):
            where = f"{path}: episode {episodes[row]}, frame {frames[row]}"
            asked.setdefault(int(episodes[row]), []).extend(_questions(where, int(frames[row]), rows, cameras))
    return tuple(
        EpisodeWords(subtasks=lasting.get(each.index, ()), questions=tuple(asked.get(each.index, ())))
        for each in dataset.episodes
    )


def _subtasks(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, str], ...]:
    found = [(float(row["timestamp"]), str(row["content"])) for row in rows if row["style"] == "subtask"]
    return tuple(sorted((start, text) for start, text in found if text.strip()))


def _questions(where: str, frame: int, rows: Sequence[Mapping[str, Any]], cameras: Mapping[str, str]) -> list[Question]:
    """Each question with the answer behind it that is about the same camera."""
    found: list[Question] = []
    open_: dict[str, str] = {}
    for row in (row for row in rows if row["style"] == "vqa" and row["content"]):
        key = str(row["camera"])
        if key not in cameras:
            raise InputError(
                where=where,
                expected=f"a question about one of {', '.join(cameras)}",
                got=repr(row["camera"]),
                do="Name the camera by its feature's key.",
            )
        if row["role"] == "user":
            open_[key] = str(row["content"])
        elif key in open_:
            found.append(
                Question(frame=frame, camera=cameras[key], question=open_.pop(key), answer=str(row["content"]))
            )
    return found


@dataclass(frozen=True, kw_only=True)
class QuestionBatches:
    """Questions of some episodes as batches without actions, each a function of the step."""

    dataset: LeRobotDataset
    window: Window
    """Its cameras and their size; cameras that the data set lacks are left to whoever joins the batches."""
    cache: FrameCache
    questions: tuple[tuple[int, Question], ...] = field(repr=False)
    """The episode of each question, and the question."""
    batch_size: int
    seed: int

    @classmethod
    def of(
        cls,
        dataset: LeRobotDataset,
        window: Window,
        *,
        batch_size: int,
        seed: int,
        episodes: Collection[int] | None = None,
    ) -> QuestionBatches:
        """All questions about the cameras that a policy has, of some episodes or of all.

        Raises:
            InputError: there are none.
        """
        cameras = tuple(camera for camera in window.cameras if camera in dataset.cameras)
        found = [
            (index, asked)
            for index, words in enumerate(read_words(dataset))
            for asked in words.questions
            if asked.camera in cameras and (episodes is None or index in episodes)
        ]
        if not found:
            raise InputError(
                where=str(dataset.path),
                expected=f"questions about one of the policy's cameras ({', '.join(window.cameras)})",
                got="none",
                do="Annotate it (style vqa), or record with `crossroads data record tabletop --words`.",
            )
        cache = FrameCache.open(dataset, cameras=cameras, image_hw=window.image_hw)
        return cls(
            dataset=dataset, window=window, cache=cache, questions=tuple(found), batch_size=batch_size, seed=seed
        )

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, 6))
        return self.asked(rng.integers(len(self.questions), size=self.batch_size))

    def asked(self, chosen: np.ndarray) -> Batch:
        """The questions with these numbers."""
        some = [self.questions[number] for number in chosen.tolist()]
        episodes, frames = np.array([(episode, one.frame) for episode, one in some]).T
        num = len(some)
        images = {camera: torch.from_numpy(self.cache.take(camera, episodes, frames)) for camera in self.cache.cameras}
        none = torch.zeros(num, 0)
        return Batch(
            obs=Observation(
                images=images,
                state=none,
                text=tuple(one.question for _, one in some),
                robot=(self.dataset.space.robot,) * num,
                time_s=torch.tensor([one.frame / self.dataset.fps for _, one in some]),
            ),
            actions=torch.zeros(num, 0, 0),
            actions_valid=none.bool(),
            future={},
            future_valid=none.bool(),
            answer=tuple(one.answer for _, one in some),
            weight=torch.ones(num),
            **Batch.unforeseen(num),
        )


class Windowed(Protocol):
    """Whatever gives windows by number."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch: ...


@dataclass(frozen=True)
class WithSubtasks:
    """Windows whose answer is the subtask of their frame, where one is told."""

    windows: Windowed
    subtasks: Sequence[str]

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        answers = tuple(self.subtasks[index] for index in np.asarray(indices).tolist())
        return replace(self.windows.batch(indices), answer=answers)


def subtasks_at(dataset: LeRobotDataset, places: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The subtask at each episode and frame; empty where none is told."""
    words = read_words(dataset)
    return tuple(words[episode].subtask_at(frame / dataset.fps) for episode, frame in places)
