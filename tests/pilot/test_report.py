"""The report: one well-formed page with every section, nothing fetched, and the same report back from its file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from synthetic_report import KINDS, synthetic_report

from crossroads.errors import InputError
from crossroads.pilot import page, page_budget, words
from crossroads.pilot.drawing import study_styles, styles
from crossroads.pilot.page import write_report
from crossroads.pilot.page_first import changes, unmeasured
from crossroads.pilot.report import Report, picture

SECTIONS = [
    *("verdict", "why", "letters", "equal", "studies", "labels", "success", "grounding", "imagination", "latency"),
    *("convergence", "diff", "cost", "offline", "limits", "provenance"),
]
ADDED = ("budget", "studies", "convergence", "executability", "letters")
XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def full() -> tuple[Report, str]:
    report = synthetic_report(decision=True)
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
    absent = {"letters", "studies", "convergence"} if which == "bare" else set()
    assert [s.get("id") for s in root.iter(f"{XHTML}section")] == [name for name in SECTIONS if name not in absent]
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
    assert "What would change this verdict" in text
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


def test_a_report_from_before_the_designs_reads_as_one_that_lacks_them(full: tuple[Report, str]) -> None:
    plain = json.loads(full[0].to_json())
    report = Report.from_json(json.dumps({name: value for name, value in plain.items() if name not in ADDED}))
    assert [bool(getattr(report, name)) for name in ADDED] == [False] * len(ADDED)
    assert report.verdict.sentence in page.render(report)
    assert Report.from_json(report.to_json()) == report


@pytest.mark.parametrize("name", ADDED)
def test_a_report_that_has_some_of_the_new_parts_and_not_others_is_refused(full: tuple[Report, str], name: str) -> None:
    plain = json.loads(full[0].to_json())
    del plain[name]
    with pytest.raises(InputError, match=rf"report.{name}: expected a value"):
        Report.from_json(json.dumps(plain))


def test_what_was_not_measured_is_said_in_one_line_and_takes_no_other_room(
    full: tuple[Report, str], bare: tuple[Report, str]
) -> None:
    assert unmeasured(full[0]) == ()
    assert "Not measured in this run" not in full[1]
    assert len(unmeasured(bare[0])) == len(ADDED)
    (line,) = re.findall(r"<li>Not measured in this run: (.*)</li>", bare[1])
    assert line == "; ".join(unmeasured(bare[0])) + "."
    for heading in ("Matched designs", "Convergence", "Plan and account", "Many arms at once", "Can the imagined"):
        assert heading in full[1]
        assert heading not in bare[1]


def test_every_design_shows_its_question_finding_doubts_points_and_effects(full: tuple[Report, str]) -> None:
    report, text = full
    root = parse(text)
    for study in report.studies:
        (article,) = [a for a in root.iter(f"{XHTML}article") if a.get("id") == f"study-{study.key}"]
        said = " ".join("".join(article.itertext()).split())
        for words_of in (study.title, study.question, study.finding, *(arm.summary for arm in study.arms)):
            assert words_of in said
        assert [g.note.lower() in said.lower() for g in study.guards] == [g.status != "pass" for g in study.guards]
        plots = [svg for svg in article.iter(f"{SVG}svg") if svg.get("role") == "img"]
        titles = [len(list(svg.iter(f"{SVG}title"))) for svg in plots]
        assert sum(titles) == len(study.points) + len(study.effects)
        cells = [cell for cell in article.iter(f"{XHTML}td") if cell.get("class") == "rate"]
        assert len(cells) == len(study.points)
        decided = [cell.text or "".join(cell.itertext()) for cell in article.iter(f"{XHTML}td")]
        assert decided.count("yes") == sum(effect.decided for effect in study.effects)


def test_plan_and_account_stand_together_and_only_deviations_are_remarked(full: tuple[Report, str]) -> None:
    table = full[0].budget
    assert table is not None
    rows = {row.arm: row for row in page_budget.spending(table)}
    assert set(rows["pi0"].beside) == {""}
    assert rows["fast_wam"].beside == ("+12 %",) * 6 + ("",)
    assert rows["cloning"].spent is None
    assert [column.title for column in page_budget.columns(table) if column.matched] == ["samples", "steps"]
    free = dataclasses.replace(
        table,
        rows=tuple(
            dataclasses.replace(row, planned=dataclasses.replace(row.planned, money=None), spent=None)
            for row in table.rows
        ),
    )
    assert "money" not in [column.title for column in page_budget.columns(free)]


def test_what_would_change_the_verdict_names_guards_sample_sizes_and_unequal_budgets() -> None:
    report = synthetic_report(decision=True)
    leads = [change.lead for change in changes(report)]
    assert leads == ["more episodes", "arms unequal"]
    assert "1.62 times" in changes(report)[-1].text
    winner = synthetic_report(gap=0.25)
    low = winner.verdict.interval
    assert winner.verdict.status == "winner"
    assert low is not None
    assert [change.lead for change in changes(winner)] == [
        "a repeat that disagrees",
        "plateau: not checked",
        "arms unequal",
    ]
    assert changes(winner)[1].text.startswith("the arms were not trained twice as long")
    assert f"{round(100 * low.low)} points" in changes(winner)[0].text
    failed = synthetic_report(gap=-0.9, num_arms=3)
    failed = dataclasses.replace(failed, verdict=_tripped(failed))
    assert changes(failed)[0].lead == "floor: fail"
    unexecuted = changes(synthetic_report(closed_loop=False))
    assert unexecuted[0].lead == "trials in a simulator or on the robot"
    late = dataclasses.replace(report, convergence=(dataclasses.replace(report.convergence[0], steps=1900.0),))
    assert changes(late)[-1].text.startswith("only after 1,900 of 2,000 steps was pi0")


def _tripped(report: Report):
    guards = tuple(
        dataclasses.replace(guard, status="fail") if guard.name == "floor" else guard for guard in report.verdict.guards
    )
    return dataclasses.replace(report.verdict, status="no verdict", guards=guards)


@pytest.mark.parametrize("which", ["full", "bare"])
def test_every_measured_number_says_its_seeds_and_command_to_pointer_keyboard_and_ear(
    which: str, request: pytest.FixtureRequest
) -> None:
    report, text = request.getfixturevalue(which)
    seen = 0
    for row in parse(text).iter(f"{XHTML}tr"):
        line, carried = row.get("title"), any(cell.get("tabindex") == "0" and cell.get("title") for cell in row)
        for cell in row.iter(f"{XHTML}td"):
            if not set((cell.get("class") or "").split()) & {"rate", "number"} or cell.find(f"{XHTML}span") is not None:
                continue  # not a measured number: words, or the marks of what is missing or equal
            behind = cell.get("title") or line
            assert behind, "".join(row.itertext())
            assert f"command: {report.provenance.command}" in behind
            assert "training seeds: 0, 1, 2" in behind
            spoken = cell.get("tabindex") == "0" if cell.get("title") else carried or _second_of_two(row)
            assert spoken, "".join(row.itertext())
            seen += 1
    assert seen > (200 if which == "full" else 20)


def _second_of_two(row: ElementTree.Element) -> bool:
    """The account stands below its plan, under one name that carries the line of both."""
    return row[0].text == "account"


@pytest.mark.parametrize("which", ["full", "bare"])
def test_headings_tables_pictures_and_plots_can_be_read_without_eyes(
    which: str, request: pytest.FixtureRequest
) -> None:
    root = parse(request.getfixturevalue(which)[1])
    levels = [int(e.tag[-1]) for e in root.iter() if re.fullmatch(rf"{XHTML}h[1-6]", e.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    tags = [element.tag.removeprefix(XHTML) for element in root.iter()]
    assert [tags.count(name) for name in ("header", "main", "nav", "footer")] == [1, 1, 1, 1]
    for head in root.iter(f"{XHTML}th"):
        assert head.get("scope") in ("col", "row", "colgroup", "rowgroup") or not "".join(head.itertext()).strip()
    for image in root.iter(f"{XHTML}img"):
        assert image.get("alt")
    for svg in root.iter(f"{SVG}svg"):
        assert svg.get("aria-label") if svg.get("role") == "img" else svg.get("aria-hidden") == "true"
    known = {element.get("id") for element in root.iter()}
    for element in root.iter():
        assert element.get("aria-labelledby") in known | {None}


def test_colours_stand_out_from_white_text_more_than_marks(full: tuple[Report, str]) -> None:
    several = [
        dataclasses.replace(arm, name=f"{arm.name} {index}") for arm in full[0].arms for index in range(8)
    ]  # every colour of every kind
    for style in (*styles(several).values(), *study_styles(full[0].studies[1], full[0].arms).values()):
        assert contrast(style.colour) >= 3, style
    css = full[1][full[1].index("<style>") : full[1].index("</style>")]
    texts = re.findall(r"(?<![-\w])color: (#\w{6})", css) + re.findall(r"--(?:ink|faint|focus): (#\w{6})", css)
    assert len(texts) >= 7
    for colour in texts:
        assert contrast(colour, against="#c5dfee") >= 4.5, colour  # the darkest tint of a table cell


def contrast(colour: str, against: str = "#ffffff") -> float:
    """Contrast ratio (WCAG 2.2, relative luminance)."""

    def luminance(text: str) -> float:
        parts = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(colour), luminance(against)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_an_arm_keeps_its_mark_inside_a_design_and_no_two_arms_share_one(full: tuple[Report, str]) -> None:
    report = full[0]
    for study in report.studies:
        look = study_styles(study, report.arms)
        assert len({(style.colour, style.mark) for style in look.values()}) == len(study.arms)
    assert study_styles(report.studies[0], report.arms)["cloning"] == styles(report.arms)["cloning"]
    many = tuple(dataclasses.replace(report.arms[1], name=f"wam {index}") for index in range(30))
    assert len({(style.colour, style.mark) for style in styles(many).values()}) == 30


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda r: {"convergence": (dataclasses.replace(r.convergence[0], arm="nobody"),)},
            r"unknown arms \['nobody'\]",
        ),
        (lambda r: {"letters": (dataclasses.replace(r.letters[0], arm="nobody"),)}, r"unknown arms \['nobody'\]"),
        (lambda r: {"studies": (r.studies[0], r.studies[0])}, r"each design once"),
        (lambda r: {"studies": (_point(r, arm="nobody"),)}, r"study labels.*'nobody'"),
        (lambda r: {"studies": (_point(r, condition="dark"),)}, r"study labels.*'dark'"),
        (lambda r: {"studies": (_twice(r),)}, r"at most one point per"),
    ],
)
def test_designs_and_their_tables_name_only_what_they_list(
    full: tuple[Report, str], tmp_path: Path, edit, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_report(dataclasses.replace(full[0], **edit(full[0])), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def _point(report: Report, **changed: str):
    study = report.studies[0]
    return dataclasses.replace(study, points=(dataclasses.replace(study.points[0], **changed),))


def _twice(report: Report):
    return dataclasses.replace(report.studies[0], points=report.studies[0].points[:1] * 2)


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
    assert [words.seconds(x) for x in (0.0123, 2.5, 75.0, 3720.0)] == ["12.3 ms", "2.5 s", "1 min 15 s", "1 h 2 min"]
    assert [words.seconds(x) for x in (0.9999, 59.99, 119.7, 3599.8)] == ["1 s", "1 min 0 s", "2 min 0 s", "1 h 0 min"]
    assert [words.flops(x) for x in (0.0, 2.1e14, 5e9, 9.9996e11)] == ["0", "210 TFLOP", "5 GFLOP", "1 TFLOP"]
    assert [words.points(x) for x in (0.034, -0.001, -0.126)] == ["+3", "0", "\N{MINUS SIGN}13"]
    assert [words.count(x) for x in (4_912_384, 999_999)] == ["4.91 M", "1 M"]


def test_what_differs_between_arms_is_named_and_controls_are_not_judged() -> None:
    report = synthetic_report(closed_loop=False)
    rows = {row.name: row for row in page_budget.held_equal(report.budgets, report.arms)}
    assert rows["optimiser steps"].remark == "equal"
    assert rows["total parameters"].remark == "within 4.3 %"
    assert not rows["training compute"].equal
    assert rows["trainable parameters"].equal  # the control has a third of them


def test_a_picture_survives_as_png() -> None:
    import base64
    import io

    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(picture(pixels))))), pixels)
