"""The page of a dataset: complete, silent, bounded in size, and readable on desk and phone."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import Recorded, episodes, write

from crossroads.cli import main
from crossroads.pilot import data_page
from crossroads.pilot.data_page import choose, duration, write_page

GIVEN = episodes(6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recording") / "toy <&> dataset", [with_a_name(one) for one in GIVEN])


def with_a_name(one: Recorded) -> Recorded:
    return Recorded(**{**vars(one), "text": f'{one.text} with "<b>quotes</b>"'})


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(folder, tmp_path_factory.mktemp("page") / "view.html", audit=False)


def test_the_page_is_well_formed_and_asks_for_nothing(page: Path) -> None:
    text = page.read_text()
    ET.fromstring(text.split("\n", 1)[1])
    assert "<script" not in text
    assert all(place.startswith(("data:", "#")) for place in re.findall(r'(?:src|href)="([^"]*)"', text))


def test_every_episode_camera_and_word_is_on_it(page: Path) -> None:
    tree = ET.fromstring(page.read_text().split("\n", 1)[1])
    space = "{http://www.w3.org/1999/xhtml}"
    articles = list(tree.iter(f"{space}article"))
    assert len(articles) == len(GIVEN)
    for article, one in zip(articles, GIVEN, strict=True):
        told = "".join(article.itertext())
        assert one.text in told
        assert ("without actions" in told) == one.action_free
        assert len(list(article.iter(f"{space}svg"))) == (0 if one.action_free else 2)
        pictures = Counter(str(image.get("alt")).split(" at ")[0] for image in article.iter(f"{space}img"))
        count = min(data_page.STRIP_FRAMES, len(one.actions))
        assert pictures == {"front": count, "wrist": count}
    labelled = np.concatenate([one.actions for one in GIVEN if not one.action_free])
    assert f"{labelled[:, 0].mean():.4g}" in "".join(tree.itertext())


def test_a_curve_spans_its_lane_from_the_least_to_the_greatest_value() -> None:
    everything = np.array([[0.0, 5.0], [10.0, 5.0]])
    drawn = data_page.lanes("x", ("a", "still"), everything, everything)
    first, second = re.findall(r'points="([^"]*)"', drawn)
    top, foot = 4, data_page.LANE_HEIGHT - 4
    assert [float(point.split(",")[1]) for point in first.split()] == [foot, top]
    middle = data_page.LANE_HEIGHT * 1.5
    assert [float(point.split(",")[1]) for point in second.split()] == [middle, middle]


def test_a_vector_of_many_numbers_is_cut_and_says_so() -> None:
    values = np.zeros((3, 40))
    drawn = data_page.lanes("x", [f"n{i}" for i in range(40)], values, values)
    assert drawn.count("<polyline") == data_page.MAX_LANES
    assert "24 more dimensions" in drawn


def test_the_page_stays_small_whatever_the_dataset(folder: Path, monkeypatch: pytest.MonkeyPatch, page: Path) -> None:
    monkeypatch.setattr(data_page, "MAX_PICTURE_BYTES", 20_000)
    small = data_page.render(folder, num_episodes=24, audit=False, progress=False)
    without = int(re.findall(r"(\d+) of them are without pictures", small)[0])
    assert 0 < without < len(GIVEN)
    assert len(small) < len(page.read_text())
    few = data_page.render(folder, num_episodes=2, audit=False, progress=False)
    assert few.count("<article") == 2


def test_blamed_episodes_come_first_and_the_rest_is_spread_evenly() -> None:
    assert choose(5, [], 24) == (0, 1, 2, 3, 4)
    chosen = choose(1000, [7, 8, 500], 10)
    assert len(set(chosen)) == 10
    assert {7, 8, 500} <= set(chosen)
    assert chosen == tuple(sorted(chosen))
    rest = [index for index in chosen if index not in (7, 8, 500)]
    assert rest[0] == 0
    assert rest[-1] == 999
    assert len(choose(1000, list(range(900)), 10)) == 10


def test_what_the_audit_finds_stands_with_its_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSROADS_CACHE", str(tmp_path / "cache"))
    many = episodes(12)
    path = write(tmp_path / "toy", [*many, many[3]])
    text = write_page(path, tmp_path / "view.html").read_text()
    articles = re.findall(r'<article id="episode-(\d+)"(.*?)</article>', text, flags=re.DOTALL)
    assert [number for number, told in articles if "</span> duplicate" in told] == ["3", "12"]
    assert "To a VLA: counts a demonstration twice" in text


def test_what_cannot_be_trained_on_is_shown_and_the_audit_left_away(tmp_path: Path) -> None:
    path = write(tmp_path / "toy", GIVEN[:2])
    file = path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    times = pa.array([*table["timestamp"].to_pylist()[:-1], 99.0], pa.float32())
    pq.write_table(table.set_column(table.column_names.index("timestamp"), "timestamp", times), file)
    text = write_page(path, tmp_path / "view.html").read_text()
    assert "cannot be trained on" in text
    assert "99.0000 s" in text
    assert "a frame within" in text, "the pictures that cannot be read"
    assert "needs a sound dataset" in text
    assert text.count("<article") == 2


def test_durations_are_told_in_the_unit_a_person_would_use() -> None:
    assert [duration(s) for s in (1.25, 150, 7300)] == ["1.2 s", "2.5 min", "2.0 h"]


def test_the_command_writes_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "view.html"
    assert main(["data", "view", str(folder), "--out", str(out), "--episodes", "1", "--no-audit"]) == 0
    assert "view.html: 0." in capsys.readouterr().out
    assert main(["data", "view", str(folder), "--out", str(out), "--episodes", "0"]) == 2
    assert main(["data", "view", str(tmp_path / "absent"), "--out", str(out)]) == 2


@pytest.mark.peer
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_it_draws_itself_without_a_request_within_the_window(tab: Any, page: Path, width: int) -> None:
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.set_viewport_size({"width": width, "height": 844})
    tab.goto(page.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert said == []
    assert tab.evaluate("[...document.images].length") > 0
    assert tab.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert tab.evaluate("[...document.querySelectorAll('svg[role=img]')].every(s => s.clientHeight > 30)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
