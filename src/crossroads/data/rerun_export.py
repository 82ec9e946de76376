"""A dataset for Rerun's viewer (https://rerun.io): pictures, actions, state and words of episodes on a time line.

Episodes lie side by side, each from second 0 on. Pictures are JPEG. `pip install rerun-sdk` (Apache-2.0 or MIT).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crossroads.data.lerobot import Episode, LeRobotDataset
from crossroads.errors import InputError
from crossroads.storage import appearing

JPEG_QUALITY = 85


def export(dataset: LeRobotDataset, out: Path, episodes: Sequence[int]) -> Path:
    """Write the episodes to the file `out` (`.rrd`), which appears when it is whole.

    Raises:
        InputError: Rerun is not installed, or an episode or its pictures cannot be read.
    """
    try:
        import rerun  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            where="export for Rerun",
            expected="the package rerun-sdk",
            got=str(error),
            do="Install it: pip install 'crossroads[rerun]'.",
        ) from error
    chosen = [dataset.episode(index) for index in episodes]
    with appearing(out) as draft:
        stream = rerun.RecordingStream("crossroads", recording_id=dataset.content_hash()[:24])
        stream.save(str(draft))
        for episode in chosen:
            _log(rerun, stream, dataset, episode)
        stream.flush()
        stream.disconnect()
    return out


def _log(rerun: Any, stream: Any, dataset: LeRobotDataset, episode: Episode) -> None:
    place = f"episode_{episode.index:06d}"
    stream.log(f"{place}/instruction", rerun.TextDocument(episode.text), static=True)
    times = np.arange(episode.length) / dataset.fps
    space = dataset.space
    numbers = [("action", space.action_names, dataset.actions(episode))]
    numbers.append(("state", space.state_names, dataset.state(episode)))
    for kind, names, values in numbers if not episode.action_free else ():
        for column, name in enumerate(names):
            stream.send_columns(
                f"{place}/{kind}/{name}",
                indexes=[rerun.TimeColumn("time", duration=times)],
                columns=rerun.Scalars.columns(scalars=values[:, column].astype(np.float64)),
            )
    for camera in dataset.cameras:
        for time_s, frame in zip(times, dataset.frames(episode, camera, None), strict=True):
            stream.set_time("time", duration=float(time_s))
            picture = io.BytesIO()
            Image.fromarray(frame).save(picture, format="jpeg", quality=JPEG_QUALITY)
            stream.log(f"{place}/{camera}", rerun.EncodedImage(contents=picture.getvalue(), media_type="image/jpeg"))
