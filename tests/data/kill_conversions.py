"""Kills a conversion at random moments again and again, and looks at what is left each time.

`python tests/data/kill_conversions.py TIMES FOLDER` prints how the conversions ended; a wrong state is an error.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from foreign_formats import write_hdf5
from recordings import episodes

from crossroads.data.check import check
from crossroads.data.convert import convert
from crossroads.data.formats.source import Wanted
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.piece import sound_piece


def kill_again_and_again(times: int, folder: Path, *, num_episodes: int = 4) -> Counter[str]:
    """How often a conversion was killed while episodes were made, while they were joined, or ended before."""
    source = write_hdf5(folder / "libero", episodes(num_episodes))
    begun = time.monotonic()
    convert(source, folder / "undisturbed", wanted=Wanted())
    span_s = 1.2 * (time.monotonic() - begun)
    expected = LeRobotDataset.open(folder / "undisturbed").content_hash()
    out, work, generator = folder / "out", folder / ".out.converting", np.random.default_rng(times)
    finished, fates = 0, Counter[str]()
    for _ in range(times):
        child = os.fork()
        if child == 0:
            convert(source, out, wanted=Wanted())
            os._exit(0)
        time.sleep(float(generator.uniform(0, span_s)))
        os.kill(child, signal.SIGKILL)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        there = sorted((work / "episodes").glob("0*"))
        fate = (
            "ended" if not killed else "killed while joining" if len(there) == num_episodes else "killed while reading"
        )
        fates[fate] += 1
        if out.exists():
            assert LeRobotDataset.open(out).content_hash() == expected, "what has the name is complete"
            assert check(out).sound
            shutil.rmtree(out)
            shutil.rmtree(work, ignore_errors=True)
            finished = 0
            continue
        assert len(there) >= finished, "what was finished stays finished"
        assert all(sound_piece(piece) is not None for piece in there), "a piece is complete or not there"
        finished = len(there)
    convert(source, out, wanted=Wanted())
    assert LeRobotDataset.open(out).content_hash() == expected
    assert sorted(item.name for item in folder.iterdir()) == ["libero", "out", "undisturbed"], "nothing is left behind"
    return fates


if __name__ == "__main__":
    number, place = int(sys.argv[1]), Path(sys.argv[2])
    place.mkdir(parents=True)
    ends = kill_again_and_again(number, place)
    print(f"{number} conversions: {', '.join(f'{ends[end]} {end}' for end in sorted(ends))}; every state was right")
