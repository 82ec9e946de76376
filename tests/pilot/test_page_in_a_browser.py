"""The report in Chromium: silent, within the window on desk and phone, spoken by keyboard, verdict first on paper."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_report import synthetic_report

from crossroads.pilot import page
from crossroads.pilot.report import Report

pytestmark = pytest.mark.peer
PAPER_PX = 695
"""A4 without its margins of 13 mm, at 96 px per inch."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    report = synthetic_report(decision=True)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(report), encoding="utf-8")
    return report, path.as_uri()


def test_the_page_draws_itself_without_a_request_or_a_complaint(tab: Any, written: tuple[Report, str]) -> None:
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(written[1])
    tab.mouse.wheel(0, 20000)
    tab.wait_for_timeout(200)
    assert [url for url in asked if not url.startswith("data:")] == [written[1]]
    assert said == []
    drawn = tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    tall = tab.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.clientHeight > 60)")
    assert drawn
    assert tall


@pytest.mark.parametrize("width", [1280, 390])
def test_only_wide_tables_and_plots_scroll_sideways_and_the_keyboard_moves_them(
    tab: Any, written: tuple[Report, str], width: int
) -> None:
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(written[1])
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    wider = "[...document.querySelectorAll('.wide')].filter(b => b.scrollWidth > b.clientWidth + 1)"
    assert tab.evaluate(f"{wider}.length > 0") == (width == 390)
    if width == 390:
        tab.evaluate(f"{wider}[0].focus()")
        tab.keyboard.press("ArrowRight")
        deadline = time.monotonic() + 5  # not wait_for_function, whose second look the page's own policy forbids
        while not tab.evaluate(f"{wider}[0].scrollLeft > 0"):
            assert time.monotonic() < deadline
            tab.wait_for_timeout(20)


@pytest.mark.parametrize("width", [1280, 390])
def test_tab_reaches_every_number_and_shows_what_stands_behind_it(
    tab: Any, written: tuple[Report, str], width: int
) -> None:
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(written[1])
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    stops = tab.evaluate("document.querySelectorAll('[title][tabindex]').length")
    assert stops > 100
    reached = 0
    look = """() => {
        const e = document.activeElement, bar = getComputedStyle(e, '::after'), box = e.getBoundingClientRect();
        return [e.tabIndex === 0 && e.title, bar.position, bar.height, box.bottom, box.top, e === document.body]; }"""
    for _ in range(3 * stops):
        tab.keyboard.press("Tab")
        title, position, height, bottom, top, over = tab.evaluate(look)
        if over:
            break
        if title:
            reached += 1
            assert position == "fixed"
            assert "training seeds: 0, 1, 2; command: crossroads pilot" in title
            assert top >= 0
            assert bottom <= 844 - float(height.removesuffix("px")) + 1, title  # the bar does not hide its number
    assert reached == stops


def test_a_screen_reader_hears_the_number_and_then_what_stands_behind_it(tab: Any, written: tuple[Report, str]) -> None:
    tab.goto(written[1])
    nodes = tab.context.new_cdp_session(tab).send("Accessibility.getFullAXTree")["nodes"]
    heard = {
        node["name"]["value"]: node["description"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] == "cell" and node.get("description", {}).get("value")
    }
    point = written[0].studies[0].points[0]
    name = f"{100 * point.share:.0f} % [{100 * point.interval.low:.0f}, {100 * point.interval.high:.0f}]"
    assert f"{point.successes} of {point.trials} episodes" in heard[name]
    plots = [node["name"]["value"] for node in nodes if node["role"]["value"] == "image" and not node["ignored"]]
    assert all(plots)
    assert any(written[0].studies[0].title in name for name in plots)


@pytest.mark.parametrize("num_arms", [1, 6, 24])
def test_on_paper_the_verdict_has_the_first_sheet_and_nothing_is_cut(tab: Any, tmp_path: Path, num_arms: int) -> None:
    report = synthetic_report(decision=num_arms == 6, num_arms=min(num_arms, 6), closed_loop=num_arms > 1)
    more = tuple(replace(report.arms[1], name=f"further wam {index}") for index in range(num_arms - len(report.arms)))
    report = replace(report, arms=(*report.arms, *more))
    path = tmp_path / "report.html"
    path.write_text(page.render(report), encoding="utf-8")
    tab.goto(path.as_uri())
    first, *rest = sheets(tab.pdf(prefer_css_page_size=True))
    assert squeezed(report.verdict.sentence) in first
    assert squeezed("What would change this verdict") in first
    assert all(squeezed(arm.summary) in (first if num_arms < 24 else rest[0]) for arm in report.arms)
    assert squeezed(f"Made by {report.provenance.command}") in first  # the last line of the sheet
    assert rest[0].startswith("Why" if num_arms < 24 else "Thearms")
    later = "".join(rest)
    for study in report.studies:
        assert squeezed(study.title) in later
        assert squeezed("What each arm was trained with") in later
    assert squeezed(report.provenance.run_id) in later
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": PAPER_PX, "height": 900})
    beyond = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    assert tab.evaluate(f"{beyond}.map(e => e.tagName + ' ' + e.textContent.slice(0, 60))") == []


def sheets(pdf: bytes) -> list[str]:
    """The text of every page, without blanks: lines break where they fit."""
    pypdfium2 = pytest.importorskip("pypdfium2", reason="NO PYPDFIUM2: pip install -e '.[browser]'")
    document = pypdfium2.PdfDocument(io.BytesIO(pdf))
    texts = [squeezed(document[index].get_textpage().get_text_bounded()) for index in range(len(document))]
    document.close()
    return texts


def squeezed(text: str) -> str:
    return "".join(text.split())
