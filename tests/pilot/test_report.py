"""The report: one well-formed page with every section, nothing fetched, and the same report back from its file."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_report import KINDS, synthetic_report

from crossroads.errors import InputError
from crossroads.pilot import page
from crossroads.pilot.plots import styles
from crossroads.pilot.report import Report, picture, write_report

SECTIONS = [
    *("verdict", "why", "guards", "equal", "diff", "labels", "success", "grounding", "imagination", "latency", "cost"),
    *("offline", "limits", "provenance"),
]
XHTML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(scope="module")
def full() -> tuple[Report, str]:
    report = synthetic_report()
    return report, page.render(report)


@pytest.fixture(scope="module")
def bare() -> tuple[Report, str]:
    report = synthetic_report(num_arms=1, closed_loop=False)
    return report, page.render(report)


def parse(text: str) -> ElementTree.Element:
    """The page as XML: fails on anything unclosed, unescaped or doubly attributed."""
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


@pytest.mark.parametrize("which", ["full", "bare"])
def test_the_page_is_well_formed_in_order_and_its_names_are_unique(which: str, request: pytest.FixtureRequest) -> None:
    root = parse(request.getfixturevalue(which)[1])
    assert [section.get("id") for section in root.iter(f"{XHTML}section")] == SECTIONS
    names = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(names) == len(set(names))
    for link in root.iter(f"{XHTML}a"):
        assert (link.get("href") or "").removeprefix("#") in names


@pytest.mark.parametrize("which", ["full", "bare"])
def test_nothing_on_the_page_can_be_fetched(which: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(which)[1]
    root = parse(text)
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.split("}")[-1] in ("href", "src", "srcset", "data", "action", "poster"):
                assert value.startswith(("#", "data:image/png;base64,")), (element.tag, name, value[:60])
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#")
    assert not {"script", "link", "iframe", "object", "embed"} & {element.tag.split("}")[-1] for element in root.iter()}
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_every_reference_inside_a_plot_finds_its_target(full: tuple[Report, str]) -> None:
    text = full[1]
    names = set(re.findall(r'\bid="([^"]+)"', text))
    used = set(re.findall(r'xlink:href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used
    assert used <= names


def test_from_json_gives_the_same_report(full: tuple[Report, str], bare: tuple[Report, str]) -> None:
    for report, _ in (full, bare):
        assert Report.from_json(report.to_json()) == report


def test_the_same_report_gives_the_same_bytes(bare: tuple[Report, str]) -> None:
    assert page.render(bare[0]) == bare[1]


def test_the_page_says_the_verdict_the_numbers_and_what_settles_it(full: tuple[Report, str]) -> None:
    report, text = full
    assert report.verdict.status == "inconclusive"
    assert report.verdict.sentence in text
    assert "What would settle it" in text
    assert text.count('class="strip"') == 2
    for arm in report.arms:
        assert arm.summary in text
    assert "runs/&lt;synthetic &amp; made up&gt;" in text


def test_without_a_simulator_the_page_says_why_and_shows_no_success(bare: tuple[Report, str]) -> None:
    text = bare[1]
    assert text.count("this dataset comes without a simulator.") >= 4
    assert "No verdict" in text
    assert "Overlapping bars" not in text
    assert "Predictability gap" in text


@pytest.mark.parametrize("num_arms", [2, 6])
def test_any_number_of_arms_has_its_own_marks(num_arms: int) -> None:
    arms = synthetic_report(num_arms=num_arms, closed_loop=False).arms
    look = styles(arms)
    assert len({(style.colour, style.mark) for style in look.values()}) == num_arms == len(set(KINDS) & set(look))


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    report = synthetic_report(num_arms=1, closed_loop=False)
    written = write_report(report, tmp_path)
    before = written.read_bytes()
    with pytest.raises(InputError, match=r"report of run 'synthetic'.*Choose another"):
        write_report(dataclasses.replace(report, provenance=_other(report)), tmp_path)
    assert written.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["report.html", "report.json"]


def _other(report: Report):
    return dataclasses.replace(report.provenance, run_id="another")


def test_a_bad_number_or_a_stranger_stops_before_anything_is_written(tmp_path: Path) -> None:
    report = synthetic_report(num_arms=1, closed_loop=False)
    broken = dataclasses.replace(report.costs[0], seconds=float("nan"))
    with pytest.raises(InputError, match=r"costs\[0\].seconds.*finite"):
        write_report(dataclasses.replace(report, costs=(broken,)), tmp_path / "new")
    stranger = dataclasses.replace(report.costs[0], arm="nobody")
    with pytest.raises(InputError, match="nobody"):
        write_report(dataclasses.replace(report, costs=(stranger,)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda plain: plain.pop("arms"), r"report.arms: expected a value"),
        (lambda plain: plain["verdict"].update(status="maybe"), r"report.verdict.status.*'maybe'"),
        (lambda plain: plain["costs"][0].update(flop=1.0), r"Did you mean 'flops'"),
        (lambda plain: plain["costs"][0].update(seconds="1"), r"costs\[0\].seconds: expected float"),
    ],
)
def test_an_edited_file_is_refused_with_its_place(bare: tuple[Report, str], edit, message: str) -> None:
    plain = json.loads(bare[0].to_json())
    edit(plain)
    with pytest.raises(InputError, match=message):
        Report.from_json(json.dumps(plain))


def test_numbers_become_words_a_person_uses() -> None:
    assert [page.seconds(x) for x in (0.0123, 2.5, 75.0, 3720.0)] == ["12.3 ms", "2.5 s", "1 min 15 s", "1 h 2 min"]
    assert [page.flops(x) for x in (0.0, 2.1e14, 5e9)] == ["0", "210 TFLOP", "5 GFLOP"]
    assert [page.points(x) for x in (0.034, -0.001, -0.126)] == ["+3", "0", "\N{MINUS SIGN}13"]
    assert page.count(4_912_384) == "4.91 M"


def test_what_differs_between_arms_is_named_and_controls_are_not_judged() -> None:
    report = synthetic_report(closed_loop=False)
    rows = {row.name: row for row in page.held_equal(report.budgets, report.arms)}
    assert rows["optimiser steps"].remark == "equal"
    assert rows["total parameters"].remark == "within 4.3 %"
    assert not rows["training compute"].equal
    assert rows["trainable parameters"].equal  # the control has a third of them


def test_a_picture_survives_as_png() -> None:
    import base64
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture(pixels))))), pixels)


@pytest.mark.peer
def test_chromium_draws_the_page_and_asks_the_network_for_nothing(full: tuple[Report, str], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("NO CHROMIUM: the page was not drawn. Install it with: apt-get install chromium")
    path, shot, log = tmp_path / "report.html", tmp_path / "shot.png", tmp_path / "net.json"
    path.write_text(full[1], encoding="utf-8")
    quiet = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
    more = f"--disable-sync --no-first-run --user-data-dir={tmp_path / 'profile'} --log-net-log={log}"
    view = f"--window-size=1200,3000 --screenshot={shot} {path.as_uri()}"
    subprocess.run(
        [browser, *quiet.split(), *more.split(), *view.split()], check=True, capture_output=True, timeout=240
    )
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (3000, 1200, 3)
    assert pixels[:, :, :].std() > 20
    assert (pixels[1500:2900].std(axis=(1, 2)) > 1).mean() > 0.2  # drawn far down the page, too
    from_page = set(re.findall(r'"initiator":"[^"]*","[^}]*"url":"(https?://[^"]+)"', log.read_text(errors="replace")))
    assert from_page == set()
