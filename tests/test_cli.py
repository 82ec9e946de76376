"""The command line: quick help, one readable message and status 2 for what a person wrote wrongly, 130 for Ctrl-C."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from crossroads import cli
from crossroads.errors import InputError


def test_help_names_every_command_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, crossroads.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as leaving: assert not leaving.code, leaving.code\n"
        "heavy = {'torch', 'numpy', 'mujoco', 'pyarrow', 'av', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["data", "chek", "x"], "Did you mean 'check'?"),
        (["train", "pi0", "--data", "x", "--out", "y", "--stpes", "5"], "Did you mean '--steps'?"),
        (["show", "pi_0"], "Did you mean 'pi0'?"),
        (["diff", "pi0", "fast_wan"], "Did you mean 'fast_wam'?"),
        (["pilot", "--out", "x", "--profile", "laptpo"], "Did you mean 'laptop'?"),
        (["cost", "--flop", "1e18", "--hardware", "h10"], "Did you mean 'h100'?"),
        (["cost", "pi_0"], "Did you mean 'pi0'?"),
        (["cost", "--ratio", "unipy", "summer_22b"], "Did you mean 'unipi'?"),
        (["cost"], "expected one of RECIPE, --ledger"),
        (["cost", "--ratio", "unipi", "summer_22b"], "expected two rows on one basis"),
        (["eval", "--arm", "run", "--env", "tabletop", "--out", "out", "--families", "reech"], "reach"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_and_status_2(
    arguments: list[str],
    suggestion: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert suggestion in said
    assert "expected" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == [], "nothing half-written may be left behind"


@pytest.mark.parametrize(
    "arguments",
    [["train", "pi0"], ["cost", "--flop", "many"], ["eval", "--arm", "run", "--env", "kitchen", "--out", "out"]],
)
def test_arguments_that_cannot_be_read_leave_with_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(arguments)
    assert leaving.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "pi0", "--data", "nowhere", "--out", "run"],
        ["eval", "--arm", "nowhere", "--env", "tabletop", "--out", "out"],
        ["eval", "--arm", "http://nowhere", "--env", "tabletop", "--out", "out"],
        ["eval", "--arm", "nowhere", "--arm", "nowhere", "--env", "tabletop", "--out", "out"],
        ["pilot", "--out", "run", "--data", "nowhere"],
    ],
)
def test_a_missing_folder_says_where_and_what_to_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "nowhere" in said
    assert "expected" in said


def test_a_broken_dataset_is_reported_with_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["data", "check", str(tmp_path)]) == 2
    assert "info.json" in capsys.readouterr().out


def test_recipes_show_diff_and_cost_print_what_they_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("pi0", "fast_wam", "fast_wam_idm", "fast_wam_joint"))
    assert cli.main(["show", "fast_wam"]) == 0
    shown = capsys.readouterr().out
    assert "video.now" in shown
    assert "representation_only" in shown
    assert cli.main(["diff", "fast_wam", "fast_wam"]) == 0
    assert "do not differ" in capsys.readouterr().out
    assert cli.main(["cost", "--flop", "1e21", "--price-per-hour", "2"]) == 0
    assert "935.8 hours, 655.1 kWh at 100% of 700 W, 1,871.69" in capsys.readouterr().out
    assert cli.main(["cost", "--ledger"]) == 0
    assert "vla_foundry_full" in capsys.readouterr().out
    assert cli.main(["cost", "--ratio", "wan14b_stack", "vla_foundry_full"]) == 0
    assert "7.426" in capsys.readouterr().out


def test_cost_prints_a_sheet_and_writes_the_same_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rates = ["--hardware", "h200", "--price-per-hour", "4", "--utilisation", "0.2"]
    arguments = ["cost", "fast_wam", "--size", "published", "--steps", "1000", "--batch-size", "8", *rates]
    assert cli.main([*arguments, "--json", str(tmp_path / "sheet.json")]) == 0
    printed = capsys.readouterr().out
    written = json.loads((tmp_path / "sheet.json").read_text())
    run = written["training"]["run"]
    assert (written["hardware"]["device"]["name"], run["samples"], run["steps"]) == ("h200", 8000, 1000)
    assert f"{run['money']:,.2f}" in printed
    assert f"{run['kwh']:,.4g} kWh" in printed
    assert f"floor: {written['acting']['latency_floor']['floor_s'] * 1e3:.3g} ms" in printed


def test_every_option_has_a_spelling_that_the_checker_knows() -> None:
    for command in cli.COMMANDS.values():
        assert dataclasses.is_dataclass(command)
        assert command.__doc__, f"{command.__name__} says nothing in --help"


def raising(error: BaseException) -> type:
    class Broken:
        """Fails."""

        def run(self) -> None:
            raise error

    return dataclasses.dataclass(frozen=True, kw_only=True)(Broken)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "run the same command again to resume"),
        (InputError(where="here", expected="a", got="b", do="Do c."), 2, "here: expected a, got b. Do c."),
        (ModuleNotFoundError("No module named 'mujoco'", name="mujoco"), 2, "pip install 'crossroads[sim]'"),
    ],
)
def test_what_ends_a_command_becomes_a_message_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"recipes": raising(error), "other": raising(error)})
    assert cli.main(["recipes"]) == status
    assert said in capsys.readouterr().err


def test_ray_is_missed_with_the_name_of_its_extra_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "crossroads.pilot.cluster", raising=False)
    assert cli.main(["pilot", "--profile", "smoke", "--out", str(tmp_path / "run"), "--ray", "127.0.0.1:6379"]) == 2
    assert "pip install 'crossroads[ray]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", {"recipes": raising(ZeroDivisionError()), "other": raising(KeyError())})
    with pytest.raises(ZeroDivisionError):
        cli.main(["recipes"])
    missing = ModuleNotFoundError("No module named 'crossroads.typo'", name="crossroads.typo")
    monkeypatch.setattr(cli, "COMMANDS", {"recipes": raising(missing), "other": raising(missing)})
    with pytest.raises(ModuleNotFoundError):
        cli.main(["recipes"])
