"""What tests of this room share: a browser, and a Ray cluster of two nodes with one core each on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from golden import REPOSITORY


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NO CHROMIUM: the page was not drawn. Install it with: apt-get install chromium")
    missing = "NO PLAYWRIGHT: the page was not drawn. Install it with: pip install -e '.[browser]'"
    playwright = pytest.importorskip("playwright.sync_api", reason=missing)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """An empty tab of a desk's width."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HOST:PORT of the cluster; every process of it ends with the tests."""
    from ray.cluster_utils import Cluster

    sources = [str(REPOSITORY / "tests"), str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]
    base = Path(tempfile.mkdtemp(prefix="r"))  # paths of sockets are short, those of pytest's folders are not
    here = base / "ray"
    here.mkdir()
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", str(base))  # else the address is written below /tmp/ray, which may not exist
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sources)))
        patch.setenv("CROSSROADS_CACHE", str(tmp_path_factory.mktemp("cache")))
        two = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": str(here)})
        try:
            two.add_node(**node)
            yield str(two.address)
        finally:
            two.shutdown()
            shutil.rmtree(base, ignore_errors=True)
