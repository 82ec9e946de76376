"""The grid: every job once, the same files wherever it ran, one try for a lost worker, and nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_job
from tiny_job import Counting

from crossroads.errors import InputError
from crossroads.pilot.grid import Executor, JobError, Local, Workers, run_jobs

WHERE = ("this machine", "ray")


@pytest.fixture(params=WHERE)
def executor(request: pytest.FixtureRequest) -> Executor:
    """Two workers here, and two on the cluster."""
    if request.param == "this machine":
        return Local(num_workers=2)
    from crossroads.pilot.cluster import Ray

    return Ray(address=request.getfixturevalue("cluster"))


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("result.json"))}


def test_a_killed_worker_costs_one_try_and_the_files_are_those_of_a_run_without_a_kill(
    executor: Executor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [Counting(name=name, folder=tmp_path / "run", deaths=int(name == "b")) for name in "abc"]
    results = run_jobs(jobs, executor=executor, folder=tmp_path / "run", title="count")
    assert [result["name"] for result in results] == ["a", "b", "c"]
    assert "b: lost its worker" in (said := capsys.readouterr().err)
    assert said.count("try 2 of 3") == 1
    assert len(set(jobs[1].pids())) == 2, "another worker went on"
    assert all(len(job.pids()) == job.steps for job in jobs), "no step was done twice"
    unharmed = [Counting(name=name, folder=tmp_path / "plain") for name in "abc"]
    run_jobs(unharmed, executor=Local(num_workers=1), folder=tmp_path / "plain", title="count")
    assert written(tmp_path / "run") == written(tmp_path / "plain")


def test_what_a_job_raises_ends_the_grid_with_its_name_and_finished_jobs_stay(
    executor: Executor, tmp_path: Path
) -> None:
    good, bad = Counting(name="good", folder=tmp_path), Counting(name="bad", folder=tmp_path, error=KeyError("boom"))
    good.run(lambda share: None)
    before = good.result.stat().st_mtime_ns
    with pytest.raises(JobError, match="bad: KeyError: 'boom'") as raised:
        run_jobs([good, bad], executor=executor, folder=tmp_path, title="count")
    assert "tiny_job.py" in raised.value.__notes__[0]
    assert good.result.stat().st_mtime_ns == before


def test_wrong_input_stays_an_input_error_and_gains_the_name(tmp_path: Path) -> None:
    wrong = InputError(where="here", expected="a", got="b", do="Do c.")
    job = Counting(name="cell", folder=tmp_path, error=wrong)
    with pytest.raises(InputError, match=r"^cell: here: expected a, got b\. Do c\.$"):
        run_jobs([job], executor=Local(num_workers=1), folder=tmp_path, title="count")


def test_finished_jobs_start_no_workers(tmp_path: Path) -> None:
    class Forbidden:
        def open(self, folder: Path) -> Workers:
            raise AssertionError("workers for nothing")

    jobs = [Counting(name=name, folder=tmp_path) for name in "ab"]
    first = [job.run(lambda share: None) for job in jobs]
    assert run_jobs(jobs, executor=Forbidden(), folder=tmp_path, title="count") == first


def test_a_job_whose_workers_always_die_is_given_up_and_the_finished_one_stays(tmp_path: Path) -> None:
    jobs = [Counting(name="good", folder=tmp_path), Counting(name="doomed", folder=tmp_path, deaths=9)]
    with pytest.raises(InputError, match=r"doomed: expected a worker .* got 2 lost ones, the last killed by SIGKILL"):
        run_jobs(jobs, executor=Local(num_workers=1), folder=tmp_path, title="count", tries=2)
    assert jobs[0].result.exists()
    assert not jobs[1].result.exists()


def test_a_worker_computes_with_one_thread_and_the_caller_keeps_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    job = Counting(name="one", folder=tmp_path)
    assert run_jobs([job], executor=Local(num_workers=1), folder=tmp_path, title="count")[0]["threads"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_no_workers_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="1 or more, got 0"):
        Local(num_workers=0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("where", WHERE)
def test_a_grid_that_is_stopped_or_killed_leaves_no_worker_running(
    where: str, how: signal.Signals, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address = [] if where == "this machine" else [request.getfixturevalue("cluster")]
    command = [sys.executable, tiny_job.__file__, str(tmp_path), *address]
    jobs = [Counting(name=name, folder=tmp_path) for name in ("one", "two")]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as grid:
        until(lambda: all(job.pids() for job in jobs) or grid.poll() is not None)
        if how == signal.SIGINT:
            os.killpg(grid.pid, how)  # as a terminal does
        else:
            grid.kill()
        _, said = grid.communicate(timeout=60)
    assert grid.returncode == (130 if how == signal.SIGINT else -how)
    assert "Traceback" not in said
    until(lambda: not any(running(job.pids()[0]) for job in jobs))


def test_ctrl_c_reaches_workers_too_and_they_leave_it_to_the_grid(tmp_path: Path) -> None:
    job = Counting(name="one", folder=tmp_path, interrupted=True)
    assert run_jobs([job], executor=Local(num_workers=1), folder=tmp_path, title="count")[0]["name"] == "one"


def until(true: Callable[[], bool], patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be collected by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_node_that_does_not_see_the_folder_runs_nothing(cluster: str, tmp_path: Path) -> None:
    from crossroads.pilot.cluster import MARK, Ray

    class Apart:
        """A cluster whose nodes have a folder of that name, but not the driver's."""

        def open(self, folder: Path) -> Workers:
            workers = Ray(address=cluster).open(folder)
            (folder / MARK).unlink()
            return workers

    job = Counting(name="cell", folder=tmp_path)
    with pytest.raises(InputError, match=r"cell: node .* expected the driver's folder .* got another folder"):
        run_jobs([job], executor=Apart(), folder=tmp_path, title="count")
    assert not job.log.exists()


def test_more_than_any_node_has_is_refused_instead_of_waited_for(cluster: str, tmp_path: Path) -> None:
    from crossroads.pilot.cluster import Ray

    job = Counting(name="cell", folder=tmp_path)
    for asked in (Ray(address=cluster, gpus_per_job=1), Ray(address=cluster, cpus_per_job=2)):
        with pytest.raises(InputError, match="got 1 cores and 0 GPUs, 1 cores and 0 GPUs"):
            run_jobs([job], executor=asked, folder=tmp_path, title="count")
    with pytest.raises(InputError, match="a share of one GPU or a whole number"):
        Ray(address=cluster, gpus_per_job=1.5)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:many"])
def test_a_wrong_address_says_so_at_once(address: str, tmp_path: Path) -> None:
    from crossroads.pilot.cluster import Ray

    with pytest.raises(InputError, match=f"Ray cluster {address}: expected HOST:PORT"):
        Ray(address=address).open(tmp_path)
