"""Words about episodes: what is written is read again, by frame and camera, and reaches the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from recordings import FPS, episodes, space

from crossroads.data.language import (
    EVENTS,
    PERSISTENT,
    EpisodeWords,
    Question,
    QuestionBatches,
    WithSubtasks,
    read_words,
    says,
    subtasks_at,
)
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.data.writer import LeRobotWriter
from crossroads.errors import InputError
from crossroads.types import Window

SAID = (
    EpisodeWords(
        subtasks=((0.0, "go there"), (0.3, "take it")),
        questions=(
            Question(frame=0, camera="front", question="what is here ?", answer="a ball"),
            Question(frame=3, camera="wrist", question="is it blue ?", answer="no"),
            Question(frame=3, camera="front", question="is it red ?", answer="yes"),
        ),
    ),
    EpisodeWords(),
    EpisodeWords(questions=(Question(frame=4, camera="front", question="where ?", answer="<x1> <y2>"),)),
)
WINDOW = Window(
    cameras=("front", "wrist"),
    image_hw=(32, 48),
    future_s=(),
    num_actions=2,
    action_size=2,
    num_state=3,
    control_hz=FPS,
    later_state_s=(),
    value_after_s=0.0,
    discount=0.0,
)


def written(path: Path, said: tuple[EpisodeWords, ...] = SAID) -> LeRobotDataset:
    cameras: dict[str, tuple[int, int]] = dict.fromkeys(("front", "wrist"), (32, 48))
    with LeRobotWriter(path, fps=FPS, cameras=cameras, space=space(), words=True) as writer:
        for one, words in zip(episodes(len(said)), said, strict=True):
            writer.add_episode(images=one.images, state=one.state, actions=one.actions, text=one.text, words=words)
    return LeRobotDataset.open(path)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> LeRobotDataset:
    return written(tmp_path_factory.mktemp("told") / "toy")


def test_what_is_written_is_read_again(told: LeRobotDataset) -> None:
    assert says(told)
    read = read_words(told)
    assert [words.questions for words in read] == [
        tuple(sorted(words.questions, key=lambda each: each.frame)) for words in SAID
    ]
    assert [text for _, text in read[0].subtasks] == ["go there", "take it"]
    assert [start for start, _ in read[0].subtasks] == pytest.approx([0.0, 0.3])


def test_what_lasts_stands_at_every_frame_and_an_event_at_its_own(told: LeRobotDataset) -> None:
    rows = pq.read_table(told.path / "data/chunk-000/file-000.parquet").to_pylist()
    first = [row for row in rows if row["episode_index"] == 0]
    assert all(row[PERSISTENT] == first[0][PERSISTENT] for row in first)
    assert [len(row[EVENTS]) for row in first] == [2, 0, 0, 4, *[0] * (len(first) - 4)]
    assert {row["camera"] for row in first[3][EVENTS]} == {"observation.images.front", "observation.images.wrist"}


def test_a_subtask_holds_from_its_time_until_the_next() -> None:
    words = EpisodeWords(subtasks=((0.1, "a"), (0.3, "b")))
    assert [words.subtask_at(time_s) for time_s in (0.0, 0.1, 0.2, 0.3, 9.0)] == ["", "a", "a", "b", "b"]
    third = float(np.float32(0.3))  # a little more than 0.3, as data files hold it
    assert EpisodeWords(subtasks=((third, "b"),)).subtask_at(0.3) == "b"


def test_words_need_a_writer_with_their_columns(tmp_path: Path) -> None:
    (one,) = episodes(1)
    cameras: dict[str, tuple[int, int]] = dict.fromkeys(("front", "wrist"), (32, 48))
    writer = LeRobotWriter(tmp_path / "toy", fps=FPS, cameras=cameras, space=space())
    with pytest.raises(InputError, match="words=True"):
        writer.add_episode(images=one.images, state=one.state, actions=one.actions, text="x", words=SAID[0])
    writer.abandon()


def test_a_data_set_without_words_says_so(dataset: LeRobotDataset) -> None:
    assert not says(dataset)
    with pytest.raises(InputError, match="lerobot-annotate"):
        read_words(dataset)


def test_a_question_about_no_camera_is_refused(tmp_path: Path) -> None:
    lost = EpisodeWords(questions=(Question(frame=1, camera="roof", question="a ?", answer="b"),))
    with pytest.raises(InputError, match="episode 0, frame 1"):
        read_words(written(tmp_path / "toy", (lost,)))


def test_a_question_shows_its_own_frame_with_its_answer(told: LeRobotDataset) -> None:
    source = QuestionBatches.of(told, WINDOW, batch_size=3, seed=0)
    assert len(source.questions) == 4
    batch = source.asked(np.arange(4))
    for row, (episode, one) in enumerate(source.questions):
        assert batch.obs.text[row] == one.question
        assert batch.answer[row] == one.answer
        for camera, images in batch.obs.images.items():
            true = told.frames(episode, camera, np.array([one.frame]))[0]
            assert np.array_equal(images[row].numpy(), true), (camera, row)
    again, other = source.batch(5), source.batch(6)
    assert again.obs.text == source.batch(5).obs.text
    assert any(source.batch(step).obs.text != other.obs.text for step in range(7, 12))


def test_a_policy_that_lacks_the_camera_cannot_be_asked(tmp_path: Path) -> None:
    only_front = written(tmp_path / "toy", (EpisodeWords(), SAID[2]))
    wrist = Window(**{**vars(WINDOW), "cameras": ("wrist",)})
    with pytest.raises(InputError, match="one of the policy's cameras"):
        QuestionBatches.of(only_front, wrist, batch_size=1, seed=0)


def test_windows_answer_with_the_subtask_of_their_frame(told: LeRobotDataset) -> None:
    cut = Windows(told, WINDOW, episodes=(0, 1), cache=None)
    source = WithSubtasks(cut, subtasks_at(told, cut.places()))
    rows = np.arange(len(cut))
    batch, plain = source.batch(rows), cut.batch(rows)
    for answer, (episode, frame) in zip(batch.answer, cut.places(), strict=True):
        assert answer == (("go there" if frame < 3 else "take it") if episode == 0 else "")
    assert torch.equal(batch.actions, plain.actions)
