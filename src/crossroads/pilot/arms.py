"""What ``crossroads eval --arm`` may name: a trained policy's folder, or the address of a policy server.

Behind a folder of mimic_video may stand ``@`` and the level of noise of the future that it acts on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossroads.errors import InputError
from crossroads.pilot.mixed import OnRobot, robots_of
from crossroads.pilot.single import restore
from crossroads.policy import Policy, StreamPolicy
from crossroads.recipes.mimic_video import at_level
from crossroads.serve.client import SCHEMES, PolicyClient
from crossroads.serve.keys import LIBERO, RemoteKeys, read_keys
from crossroads.serve.remote import RemotePolicy
from crossroads.sim.tabletop.env import CAMERAS, TABLETOP_SPACE
from crossroads.space import ActionSpace
from crossroads.train.checkpoint import read_state


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One policy to be measured, and what it wants to see."""

    name: str
    """As it was asked for."""
    kind: str
    """The recipe's name, or ``server``."""
    policy: Policy
    cameras: tuple[str, ...]
    image_hw: tuple[int, int]
    execute_at_most: int | None
    """Actions in a chunk, where that is known before the first one."""
    identity: Mapping[str, Any]
    """What makes it this policy, as JSON: fingerprint and checksums of a run, metadata and keys of a server."""
    remote: RemotePolicy | None = None


@dataclass(frozen=True, kw_only=True)
class Wire:
    """How servers are spoken to."""

    keys: tuple[Path, ...] = ()
    """Files of request keys: none (openpi's LIBERO names), one for all servers, or one for each in their order."""
    timeout_s: float = 120.0
    api_key: str | None = None


def is_address(name: str) -> bool:
    """True for what looks like the address of a server."""
    return "://" in name


@contextlib.contextmanager
def open_arms(names: Sequence[str], wire: Wire) -> Iterator[tuple[Arm, ...]]:
    """The arms in their order, servers connected; they are hung up on when the block ends.

    Raises:
        InputError: no arm, one twice, no such run, a run for another robot, a server that does not answer as it should.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(
            where="--arm",
            expected="at least one arm, each named once",
            got=", ".join(names) or "none",
            do="Give --arm RUN or --arm ws://host:port once for each policy.",
        )
    servers = [name for name in names if is_address(name)]
    keys = dict(zip(servers, _keys(wire.keys, len(servers)), strict=True))
    with contextlib.ExitStack() as stack:
        yield tuple(
            _server(name, keys[name], stack.enter_context(_connect(name, wire))) if name in keys else _run(name)
            for name in names
        )


def _keys(files: Sequence[Path], num_servers: int) -> list[RemoteKeys]:
    """One set of keys for each server, checked against the tabletop."""
    if len(files) not in {0, 1, num_servers} or (files and not num_servers):
        raise InputError(
            where="--remote-keys",
            expected=f"one file for all servers, or one for each of the {num_servers}",
            got=f"{len(files)}",
            do="Repeat --remote-keys in the order of the ws:// arms.",
        )
    for path in files:
        read_keys(path).check(cameras=CAMERAS, state_names=TABLETOP_SPACE.state_names, where=str(path))
    found = [read_keys(path) for path in files] or [LIBERO]
    return found if len(found) == num_servers else found * num_servers


def _connect(name: str, wire: Wire) -> PolicyClient:
    if not name.startswith(SCHEMES):
        raise InputError(
            where=f"--arm {name}", expected="a run folder, ws:// or wss://", got=repr(name), do="Correct the address."
        )
    return PolicyClient(name, timeout_s=wire.timeout_s, api_key=wire.api_key)


def _server(name: str, keys: RemoteKeys, client: PolicyClient) -> Arm:
    policy = RemotePolicy(client, keys, TABLETOP_SPACE)
    wanted = {"images": dict(keys.images), "state": {key: list(names) for key, names in keys.state.items()}}
    sent = {**wanted, "prompt": keys.prompt, "image_size": keys.image_size}
    return Arm(
        name=name,
        kind="server",
        policy=policy,
        cameras=keys.cameras,
        image_hw=(keys.image_size, keys.image_size),
        execute_at_most=None,
        identity={"address": client.address, "metadata": _plain(client.metadata), "keys": sent},
        remote=policy,
    )


def dialled(name: str) -> tuple[Path, float | None]:
    """The folder of a run, and the level of noise behind an ``@`` at which it shall act on its imagined future.

    Raises ``InputError`` for what is no number.
    """
    folder, at, level = name.rpartition("@")
    if not at or Path(name).exists():
        return Path(name), None
    try:
        return Path(folder), float(level)
    except ValueError as error:
        raise InputError(
            where=f"--arm {name}", expected="a number behind the @", got=repr(level), do="Give RUN@0.6, or RUN alone."
        ) from error


def turned(policy: StreamPolicy, level: float | None) -> StreamPolicy:
    """The same weights acting on a future at another level of noise."""
    if level is None:
        return policy
    if policy.recipe.name != "mimic_video":
        raise InputError(
            where=f"--arm, @{level:g}",
            expected="a run of mimic_video, which has this dial",
            got=policy.recipe.name,
            do="Leave out the @ and what is behind it.",
        )
    return StreamPolicy(at_level(policy.recipe, level), policy.net, policy.space)


def _run(name: str) -> Arm:
    folder, level = dialled(name)
    policy = turned(restore(folder), level)
    window, state = policy.recipe.window, read_state(folder / "policy")
    here = next((one for one in robots_of(state["meta"]) if one.robot == TABLETOP_SPACE.robot), None)
    cameras = tuple(here.cameras[slot] for slot in window.cameras if slot in here.cameras) if here else window.cameras
    _require_tabletop(folder, here.space if here else policy.space, cameras)
    return Arm(
        name=name,
        kind=policy.recipe.name,
        policy=OnRobot(policy, window, here) if here else policy,
        cameras=cameras,
        image_hw=window.image_hw,
        execute_at_most=policy.recipe.chunk.num_actions,
        identity={"recipe": policy.recipe.name, "frozen": state["frozen"], "checksums": state["checksums"]}
        | ({} if level is None else {"level": level}),
    )


def _require_tabletop(folder: Path, space: ActionSpace, cameras: tuple[str, ...]) -> None:
    """Refuse a policy that was trained for another robot."""

    def what(space: ActionSpace) -> str:
        plain = asdict(space)
        return ", ".join(f"{name} {plain[name]}" for name in ("action_names", "state_names", "control_hz"))

    missing = set(cameras) - set(CAMERAS)
    if what(space) != what(TABLETOP_SPACE) or missing:
        raise InputError(
            where=str(folder),
            expected=f"a policy of the tabletop ({what(TABLETOP_SPACE)}, cameras {CAMERAS})",
            got=f"one of {space.robot!r} ({what(space)}, cameras {cameras})",
            do="Train on a dataset of this world; `crossroads data record tabletop` writes one.",
        )


def _plain(value: Any) -> Any:
    """Metadata of a server as JSON; what JSON lacks becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    return str(value)
