"""Which weights a published checkpoint holds, by content, so that what was computed with them can be kept.

Content and not size and date: the same files give the same name on every machine, so that a cache may travel with its
policy, and a file replaced in place is never taken for the old one. A large file is read once for each size, date and
place on the disk, which are kept beside its hash, as git's index does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from crossroads.storage import appearing, default_root

_LARGE_BYTES = 2**24
_SMALL_FILES = frozenset({".json", ".model", ".txt"})


def weights_identity(source: str, subfolders: Sequence[str]) -> str | None:
    """The sha256 (hex) of the files in some folders of a checkpoint; None where not all are on this machine.

    ``source``: a local folder, or a repository of the model hub that was downloaded before. Nothing is downloaded here.
    """
    top = Path(source) if Path(source).is_dir() else _in_hub_cache(source)
    if top is None:
        return None
    total = hashlib.sha256()
    for subfolder in subfolders:
        files = _files(top / subfolder)
        if not files:
            return None
        for path in files:
            total.update(f"{subfolder}/{path.name}\0{_file_hash(path)}\n".encode())
    return total.hexdigest()


def tensors_identity(net: nn.Module) -> str:
    """The sha256 (hex) of a loaded network's tensors: names, types, shapes, numbers."""
    total = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\n".encode())
        total.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return total.hexdigest()


def _files(folder: Path) -> list[Path]:
    """What a loader reads: settings, words, weights (safetensors where there are both); empty when some are missing."""
    if not folder.is_dir():
        return []
    small = [path for path in folder.iterdir() if path.suffix in _SMALL_FILES and path.is_file()]
    named = {name for path in small if path.name.endswith(".index.json") for name in _shards(path)}
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    is_model = (folder / "config.json").is_file()  # a tokeniser has a file of another name, and no weights
    if (is_model and not weights) or any(not (folder / name).is_file() for name in named):
        return []  # a download that was broken off
    return sorted([*small, *weights])


def _shards(index: Path) -> list[str]:
    return list(json.loads(index.read_text()).get("weight_map", {}).values())


def _in_hub_cache(source: str) -> Path | None:
    """The folder of a hub repository as it was last downloaded; None without one, or without the hub's client."""
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        return Path(snapshot_download(source, local_files_only=True))
    except Exception:  # the client raises many kinds: never downloaded, not a repository's name
        return None


def _file_hash(path: Path) -> str:
    state = path.stat()
    if state.st_size < _LARGE_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    stamp = f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ino}"
    known = default_root() / "file_hashes" / hashlib.sha256(stamp.encode()).hexdigest()[:32]
    if not known.is_file():
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        with appearing(known) as draft:
            draft.write_text(found)
    return known.read_text()
