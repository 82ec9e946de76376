"""Published releases on disk: safetensors in one file or in shards, read tensor by tensor into a network.

A release is a local folder or a repository of the model hub. The network is made without weights (``empty_net``) and
each published tensor goes straight to the device and precision that are asked for, so that at no time two copies of
the weights exist. What is missing, left over or of another shape ends with an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from crossroads.build import build_net
from crossroads.errors import InputError, nearest
from crossroads.net import StreamNet
from crossroads.recipes.names import Renamed, exported, imported
from crossroads.space import Fitted
from crossroads.stage import Stage

INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
PROCESSORS = "policy_*processor*.safetensors"
"""LeRobot keeps statistics of the data in files of their own beside the weights."""


class Release(Mapping[str, Tensor]):
    """The tensors of a release by published name; each is read from disk when it is asked for.

    Raises:
        InputError: the folder holds no safetensors files, a shard that its index names is missing or cut off, or two
            files hold one name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        for path in _files_of(folder):
            try:
                opened = self._stack.enter_context(safe_open(path, framework="pt"))
            except Exception as error:  # safetensors raises its own type, which no release of it exports twice alike
                raise InputError(
                    where=str(path),
                    expected="a whole safetensors file",
                    got=str(error),
                    do="Fetch the file again.",
                ) from error
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                if name in self._files:
                    raise InputError(
                        where=str(folder),
                        expected="every tensor once",
                        got=f"{name!r} in two files",
                        do="Keep the files of one release in a folder.",
                    )
                self._files[name] = opened

    def __enter__(self) -> Release:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _files_of(folder: Path) -> list[Path]:
    index = folder / INDEX
    if index.exists():
        files = sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    else:
        files = sorted(set(folder.glob("*.safetensors")) - set(folder.glob(PROCESSORS)))
    absent = [path.name for path in files if not path.exists()]
    if absent or not files:
        raise InputError(
            where=str(folder),
            expected="the safetensors files of a release",
            got=f"without {', '.join(absent)}, which its index names" if absent else "none",
            do="Fetch all files of the release, or convert a pickled checkpoint to safetensors first.",
        )
    return files


def fetched(source: str) -> Path:
    """The folder of a release: ``source`` itself if it is one, else the hub's repository of that name, downloaded."""
    if Path(source).is_dir():
        return Path(source)
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise InputError(
            where="release",
            expected="a folder, or the name of a hub repository (owner/name)",
            got=repr(source),
            do="Check the path.",
        )
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            where=f"release {source}",
            expected="the package huggingface_hub, or a local folder",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    try:
        return Path(snapshot_download(source, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:  # the hub's client raises many kinds: offline, unknown, not allowed
        raise InputError(
            where=f"release {source}",
            expected="a repository of the model hub that may be read",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            do="Log in to the hub, accept the model's licence there, or give a local folder.",
        ) from error


def empty_net(stage: Stage, *, device: torch.device | str, dtype: torch.dtype) -> StreamNet:
    """A stage's network whose weights have shapes and no storage; what is fitted on data is as before."""
    with torch.device("meta"):
        net = build_net(stage).to(dtype)
    for module in net.modules():
        if isinstance(module, Fitted):
            module.to_empty(device=device)
            module.float()
            module.reset()
    return net


@torch.no_grad()
def load_release(
    net: StreamNet,
    renamed: Iterable[Renamed],
    published: Mapping[str, Tensor],
    *,
    unused: tuple[str, ...] = (),
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> None:
    """Give every weight of ``net`` its published value, one at a time; ``unused``: patterns of names without a use.

    Raises:
        InputError: a weight is missing, left over, or of another shape; none has been changed then, but for a shape
            that only the tensor itself tells.
    """
    renamed = tuple(renamed)
    places = net.weight_names({group.tower for group in net.layout.groups.values()})
    parameters = dict(net.named_parameters())
    _check_names(renamed, published, {public for public, place in places.items() if place in parameters}, unused)
    for entry in renamed:
        place = places[entry.ours]
        value = imported([entry], published)[entry.ours]
        old = parameters[place]
        if value.shape != old.shape:
            raise InputError(
                where=f"weight {' + '.join(entry.theirs)}",
                expected=f"shape {tuple(old.shape)} (as {entry.ours})",
                got=str(tuple(value.shape)),
                do="Build the recipe at the size of the release.",
            )
        module, _, leaf = place.rpartition(".")
        placed = value.to(device=device, dtype=dtype or old.dtype)
        setattr(net.get_submodule(module), leaf, nn.Parameter(placed, requires_grad=old.requires_grad))


def _check_names(
    renamed: tuple[Renamed, ...], published: Mapping[str, Tensor], wanted: set[str], unused: tuple[str, ...]
) -> None:
    """Every weight of ours has its published tensors, and every published tensor has a use or is known to have none."""
    used = {name for entry in renamed for name in entry.theirs}
    missing = sorted(used - set(published))
    left = sorted(name for name in set(published) - used if not any(re.fullmatch(pattern, name) for pattern in unused))
    unmapped = sorted(wanted - {entry.ours for entry in renamed})
    assert not unmapped, f"the weight map lacks {unmapped[:5]}"
    for kind, names in (("missing", missing), ("unexpected", left)):
        if names:
            near = nearest(names[0], left if kind == "missing" else missing) if left and missing else ""
            raise InputError(
                where="published weights",
                expected=f"the {len(used)} tensors of this recipe at this size",
                got=f"{len(names)} {kind}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}",
                do=near or "Build the recipe at the size of the release, or fetch all of its files.",
            )


def write_release(
    net: StreamNet,
    renamed: Iterable[Renamed],
    folder: Path,
    *,
    shard_bytes: int | None = SHARD_BYTES,
    beside: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """Write weights under their published names: one file, or shards of at most ``shard_bytes`` (None: one file) and an
    index. ``beside``: tensors that are written with those of the first file.

    The files appear under their names only when all are whole.
    """
    places = net.weight_names({group.tower for group in net.layout.groups.values()})
    parameters = dict(net.named_parameters())
    folder.mkdir(parents=True, exist_ok=True)
    extra = dict(beside or {})
    shards: list[dict[str, int]] = [{name: value.numel() * value.element_size() for name, value in extra.items()}]
    entries: list[list[Renamed]] = [[]]
    for entry in renamed:
        value = parameters[places[entry.ours]]
        size = value.numel() * value.element_size()
        full = shard_bytes is not None and sum(shards[-1].values()) + size > shard_bytes
        if entries[-1] and entry.row is None and full:
            shards.append({})
            entries.append([])
        if entry.row is None:  # a row goes where its table is
            shards[-1].update(dict.fromkeys(entry.theirs, size // len(entry.theirs)))
        entries[-1].append(entry)
    single = len(shards) == 1
    written = []
    for number, part in enumerate(entries, start=1):
        path = folder / ("model.safetensors" if single else f"model-{number:05d}-of-{len(shards):05d}.safetensors")
        ours = {entry.ours: parameters[places[entry.ours]].detach().cpu() for entry in part}
        values = {name: value.contiguous() for name, value in exported(part, ours).items()}
        values |= extra if number == 1 else {}
        save_file(values, path.with_suffix(".partial"), metadata={"format": "pt"})
        written.append(path)
    for path in written:
        path.with_suffix(".partial").replace(path)
    if not single:
        files = {name: path.name for path, shard in zip(written, shards, strict=True) for name in shard}
        total = sum(sum(shard.values()) for shard in shards)
        (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": files}, indent=1))
    return written
