"""``crossroads video``: how a trained policy's imagined frames compare with recorded ones, by every measure at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from crossroads.axes import imagines
from crossroads.data.cache import FrameCache
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import Windows
from crossroads.errors import InputError
from crossroads.evaluate.foresight import ForesightGap, foresight_gap
from crossroads.evaluate.offline import predict, video_scores
from crossroads.evaluate.published_metrics import Distance, frechet, lpips_distance
from crossroads.evaluate.video import VideoScore
from crossroads.pilot.single import restore
from crossroads.policy import StreamPolicy


@dataclass(frozen=True, kw_only=True)
class ImaginedScores:
    """What was measured over some windows of a dataset."""

    recipe: str
    num_windows: int
    scores: tuple[VideoScore, ...]
    """PSNR and SSIM, one per horizon."""
    distances: tuple[Distance, ...]
    gap: ForesightGap | None
    """None where fewer than two episodes of the dataset have actions."""


def score_imagined(
    run: Path, data: Path, *, num_windows: int, lpips: Literal["alex", "vgg"] | None, features: tuple[Path, ...]
) -> ImaginedScores:
    """Imagine from evenly spread windows of every episode of ``data``, and compare with what the camera then showed.

    Raises:
        InputError: a run that imagines nothing, or one for other cameras than the dataset has.
    """
    policy = restore(run)
    if not imagines(policy.recipe):
        raise InputError(
            where=str(run),
            expected="a policy that imagines frames while it acts",
            got=policy.recipe.name,
            do="Give a run of another recipe, fast_wam_idm or fast_wam_joint for instance.",
        )
    dataset, window = LeRobotDataset.open(data), policy.recipe.chunk
    cache = FrameCache.open(dataset, cameras=window.cameras, image_hw=window.image_hw)
    windows = Windows(dataset, window, episodes=[episode.index for episode in dataset.episodes], cache=cache)
    ahead = round(window.future_s[-1] * dataset.fps)
    places = enumerate(windows.places())
    rows = np.array([row for row, (index, at) in places if at + ahead < dataset.episodes[index].length])
    if not len(rows):
        raise InputError(
            where=str(data),
            expected=f"episodes longer than the {window.future_s[-1]:g} s that the policy imagines",
            got=f"at most {max(episode.length for episode in dataset.episodes) / dataset.fps:g} s",
            do="Give a dataset with longer episodes.",
        )
    chosen = rows[np.unique(np.linspace(0, len(rows) - 1, min(num_windows, len(rows))).astype(int))]
    batch = windows.batch(chosen)
    _, imagined = predict(policy, batch.obs, seed=0, show=True)
    camera = next(iter(imagined))
    real, made, last = batch.future[camera], imagined[camera], batch.obs.images[camera]
    return ImaginedScores(
        recipe=policy.recipe.name,
        num_windows=len(chosen),
        scores=video_scores(imagined, batch, window.future_s),
        distances=(
            *([lpips_distance(real, made, lpips)] if lpips else []),
            *(frechet(real, made, last, path) for path in features),
        ),
        gap=_gap(policy, dataset, windows, chosen),
    )


def _gap(policy: StreamPolicy, dataset: LeRobotDataset, windows: Windows, chosen: np.ndarray) -> ForesightGap | None:
    """Over the chosen windows of episodes with actions."""
    labelled = [episode.index for episode in dataset.episodes if not episode.action_free]
    places = windows.places()
    chosen = np.array([row for row in chosen if places[row][0] in set(labelled)])
    episodes = [places[row][0] for row in chosen]
    if len(set(episodes)) < 2:
        return None
    scale = np.array(dataset.statistics("action", labelled).std)
    return foresight_gap(policy, windows.batch(chosen), scale=scale, episodes=episodes)


def scores_text(found: ImaginedScores) -> str:
    """A table by horizon, then the distances that were asked for."""
    lines = [f"{found.recipe}: {found.num_windows} windows", "", "ahead, s   PSNR, dB (repeating)   SSIM (repeating)"]
    lines += [
        f"{s.time_s:8.2f}   {s.psnr_db:8.2f} ({s.psnr_repeat_db:.2f})   {s.ssim:8.3f} ({s.ssim_repeat:.3f})"
        for s in found.scores
    ]
    for one in found.distances:
        doubt = "; fewer than it has features, so it ranks nothing" if one.low_rank else ""
        lines.append(f"{one.name}: {one.value:.3f} over {one.num}{doubt}")
    if (gap := found.gap) is not None:
        lines.append(
            f"action error in standard deviations: {gap.imagined:.3f} on the future it imagines, {gap.true:.3f} on the "
            f"true one; ratio {gap.ratio:.2f} [{gap.interval.low:.2f}, {gap.interval.high:.2f}] over "
            f"{gap.num_windows} windows"
        )
    return "\n".join(lines)
