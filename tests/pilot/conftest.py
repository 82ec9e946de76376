"""A Ray cluster of two nodes with one core each, on this machine and without Ray's own noise."""

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
