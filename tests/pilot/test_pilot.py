"""The pilot end to end at its smallest: every kind of cell, the report, resuming, and data without a simulator."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crossroads.data.lerobot import LeRobotDataset
from crossroads.errors import InputError
from crossroads.evaluate.records import read_records
from crossroads.pilot.assemble import assemble
from crossroads.pilot.grid import Local
from crossroads.pilot.imagined import score_imagined, scores_text
from crossroads.pilot.page import write_report
from crossroads.pilot.plan import SMOKE, Cell
from crossroads.pilot.run import choose_executor, prepare
from crossroads.pilot.single import Training, train_recipe
from crossroads.pilot.whole import run_pilot

TINY = replace(
    SMOKE,
    wams=("fast_wam_idm",),
    labels=(2, 4),
    verdict_labels=2,
    steps=4,
    short_steps=4,
    batch_size=4,
    num_held_out=3,
    num_action_free=1,
    num_trials=3,
    num_swapped=2,
    num_probe=4,
    num_words=2,
    execute_steps=12,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished tiny pilot on the embedded tabletop."""
    out = tmp_path_factory.mktemp("pilot") / "run"
    prepared = prepare(out, TINY, None)
    write_report(assemble(prepared, run_pilot(prepared, executor=Local(num_workers=2)), command="test"), out)
    return out


def test_every_cell_is_measured_and_the_report_names_every_arm(finished: Path) -> None:
    every = [json.loads(path.read_text()) for path in sorted(finished.glob("cells/*/result.json"))]
    results = [result for result in every if not result["doubled"]]
    assert {(r["arm"], r["labels"]) for r in results} == {
        ("cloning", 4),
        ("pi0", 2),
        ("pi0", 4),
        ("fast_wam_idm", 2),
        ("fast_wam_idm", 4),
    }
    assert all(r["steps"] == TINY.steps and r["closed_loop"]["episodes"] == 5 for r in results)
    html = (finished / "report.html").read_text()
    assert all(name in html for name in ("pi0", "fast_wam_idm", "cloning"))
    assert json.loads((finished / "report.json").read_text())["verdict"]["status"] == "no verdict"
    assert not (finished / "features").exists()


def test_imagined_frames_of_a_cell_are_scored_and_an_arm_that_imagines_nothing_is_refused(finished: Path) -> None:
    cells = finished / "cells"
    run = cells / Cell(arm="fast_wam_idm", labels=4, seed=0).name
    found = score_imagined(run, finished / "data", num_windows=3, lpips=None, features=())
    assert (found.recipe, found.num_windows) == ("fast_wam_idm", 3)
    assert {score.num_clips for score in found.scores} == {3}
    assert found.gap is not None
    assert found.gap.interval.low <= found.gap.ratio <= found.gap.interval.high
    assert all(f"{figure:.2f}" in scores_text(found) for figure in (found.scores[-1].psnr_db, found.gap.ratio))
    with pytest.raises(InputError, match="imagines frames while it acts, got pi0"):
        score_imagined(cells / "pi0-4-0", finished / "data", num_windows=3, lpips=None, features=())


def test_a_second_call_trains_nothing_and_a_lost_cell_alone_is_run_again(finished: Path) -> None:
    lost = finished / "cells" / Cell(arm="pi0", labels=2, seed=0).name
    before = json.loads((lost / "result.json").read_text())
    kept = {path: path.stat().st_mtime_ns for path in finished.glob("cells/*/result.json") if path.parent != lost}
    shutil.rmtree(lost)
    results = run_pilot(prepare(finished, TINY, None), executor=Local(num_workers=1))
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    again = next(r for r in results if (r["arm"], r["labels"]) == ("pi0", 2))
    assert again["losses"] == before["losses"]
    assert again["action_error"] == before["action_error"]


def test_cells_on_ray_with_one_worker_killed_write_what_cells_on_this_machine_write(
    finished: Path, cluster: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    killed, other = (Cell(arm=arm, labels=4, seed=0).name for arm in ("fast_wam_idm", "pi0"))
    for name in (killed, other):
        shutil.rmtree(out / "cells" / name)
    killer = threading.Thread(target=kill_worker_of, args=(killed, out / "cells" / killed / "policy"), daemon=True)
    killer.start()
    executor = choose_executor(jobs=None, ray=cluster, cpus_per_cell=None, gpus_per_cell=None)
    run_pilot(prepare(out, TINY, None), executor=executor)
    killer.join()
    assert f"{killed}: lost its worker" in capfd.readouterr().err
    assert files_of_cells(out) == files_of_cells(finished)


def kill_worker_of(name: str, trained: Path) -> None:
    """SIGKILL for the process that runs a cell, between its training and its result."""
    while not trained.exists():
        time.sleep(0.02)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            running = (process / "cmdline").read_text().strip("\0 ")
        except OSError:
            continue
        if running == f"ray::{name}":
            os.kill(int(process.name), signal.SIGKILL)


def files_of_cells(out: Path) -> dict[str, object]:
    """What every cell wrote, without what a clock measured."""
    found: dict[str, object] = {}
    for path in sorted((out / "cells").glob("*/**/*")):
        name = str(path.relative_to(out))
        if path.name == "result.json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.name == "episodes.jsonl":
            found[name] = [replace(record, latencies_s=()) for record in read_records(path)]
        elif path.name == "film.npz" or path.parent.name == "policy":
            found[name] = path.read_bytes()
    return found


def untimed(result: dict) -> dict:
    kept = {key: value for key, value in result.items() if key not in ("train_seconds", "latency")}
    return {**kept, "closed_loop": {key: value for key, value in kept["closed_loop"].items() if key != "seconds"}}


def test_settings_of_one_kind_of_executor_are_refused_with_the_other() -> None:
    with pytest.raises(InputError, match="--gpus-per-cell: expected --ray"):
        choose_executor(jobs=None, ray=None, cpus_per_cell=None, gpus_per_cell=1.0)
    with pytest.raises(InputError, match="--jobs: expected cells on this machine"):
        choose_executor(jobs=2, ray="127.0.0.1:6379", cpus_per_cell=None, gpus_per_cell=None)
    with pytest.raises(InputError, match="1 or more, got 0"):
        choose_executor(jobs=0, ray=None, cpus_per_cell=None, gpus_per_cell=None)


def test_a_folder_of_another_plan_is_refused(finished: Path) -> None:
    with pytest.raises(InputError, match="another pilot"):
        prepare(finished, replace(TINY, steps=5), None)


def test_data_without_a_simulator_gets_the_offline_layer_and_no_verdict(finished: Path, tmp_path: Path) -> None:
    plan = replace(TINY, wams=("fast_wam",))
    data = tmp_path / "data"
    shutil.copytree(finished / "data", data)
    faulty = next(episode for episode in LeRobotDataset.open(data).episodes if not episode.action_free)
    _spoil(data, faulty.start)
    with pytest.raises(InputError, match="nan"):
        prepare(tmp_path / "run", plan, data)
    prepared = prepare(tmp_path / "run", plan, data, skip_faulty=True)
    taken = {*prepared.held_out, *(index for subset in prepared.subsets.values() for index in subset)}
    assert taken
    assert faulty.index not in taken
    report = assemble(prepared, run_pilot(prepared, executor=Local(num_workers=2)), command="test")
    assert report.verdict.status == "no verdict"
    assert f"1 faulty episode left out ({faulty.index}), as was asked for." in report.limits
    assert report.closed_loop is None
    assert report.offline is not None
    assert {row.name for row in report.offline.errors} >= {"pi0", "fast_wam", "mean action", "copy last action"}


def _spoil(data: Path, row: int) -> None:
    """One action that is no number."""
    (file,) = (data / "data").rglob("*.parquet")
    table = pq.read_table(file)
    actions = table["action"].to_pylist()
    actions[row] = [float("nan")] * len(actions[row])
    column = pa.array(actions, table["action"].type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), file)


def test_a_dataset_with_findings_is_refused_and_nothing_is_written(finished: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(finished / "data", data)
    info = json.loads((data / "meta" / "info.json").read_text())
    (data / "meta" / "info.json").write_text(json.dumps({**info, "fps": 30}))
    with pytest.raises(InputError, match="a frame every"):
        prepare(tmp_path / "run", TINY, data)
    with pytest.raises(InputError, match="a frame every"):
        train_recipe("pi0", data, tmp_path / "run", Training(steps=1))
    assert not (tmp_path / "run").exists()
