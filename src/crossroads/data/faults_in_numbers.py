"""Faults that actions and states betray without any picture: outliers, wrong signs, change points, copies, jumps.

Each search compares an episode with the rest of the same recording, so that no robot need be described beforehand.
Frames are of the recording; thresholds in seconds are turned into frames by its rate.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossroads.data.findings import Finding, Place, at_places, stretches
from crossroads.data.lerobot import Episode, LeRobotDataset

MIN_EPISODES = 4
"""Of a side, below which nothing is said."""
FAR = 8.0
"""How many usual ranges outside is out of range, however long it lasts."""
SPIKE = 0.5
"""The same for what lasts `SPIKE_S` at most."""
SPIKE_S = 0.1
LEAST_CHANGE = 0.2
"""Standard deviations of an action (or logarithm of a ratio) below which a change of its statistics is not told."""
LARGEST_SHARE = 0.6
"""Share of the episodes with the same instructions up to which a stretch counts as the odd part."""
CLIPPED = 2.5
"""Usual deviations at which an episode's mean or spread is cut while change points are looked for."""
JUMP = 4.0
"""How many times the fastest usual step of a state, and the steps beside it, is a teleport."""
GRIPPERS = ("grip", "finger", "jaw", "claw", "clamp")
"""Parts of names that tell a gripper from an axis."""
OPENINGS = ("open", "gap", "width")
"""The same for a state that only a gripper has."""


def runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags).astype(np.int8), [0]])))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def usual_range(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What nine in ten episodes stay inside, per dimension: quantiles of their lowest and highest values."""
    lows, highs = (np.array([pick(part, axis=0) for part in values]) for pick in (np.min, np.max))
    return np.quantile(lows, 0.1, axis=0), np.quantile(highs, 0.9, axis=0)


def out_of_range(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    """Actions beyond the limits that the recording declares, and short spikes or long stays far beyond usual ones."""
    if not labelled:
        return
    values = {episode.index: dataset.actions(episode).astype(np.float64) for episode in labelled}
    low, high = usual_range(list(values.values()))
    unit = np.maximum(high - low, 1e-6)
    details = dataset.info["features"]["action"].get("info") or {}
    declared = bool(details.get("low")) and bool(details.get("high"))
    short = max(1, round(SPIKE_S * dataset.fps))
    for dim, name in enumerate(dataset.space.action_names):
        places: list[Place] = []
        worst = 0.0
        for index, actions in values.items():
            beyond = np.maximum(actions[:, dim] - high[dim], low[dim] - actions[:, dim]) / unit[dim]
            found = [run for run in runs(beyond > SPIKE) if run[1] - run[0] < short or _most(beyond, run) > FAR]
            if declared:
                bottom, top = dataset.space.low[dim], dataset.space.high[dim]
                margin = 0.01 * max(top - bottom, 1e-6)
                outside = (actions[:, dim] > top + margin) | (actions[:, dim] < bottom - margin)
                found = found + [run for run in runs(outside) if not any(_meet(run, other) for other in found)]
            places += [(index, run) for run in found]
            worst = max([worst, *(float(np.abs(actions[first : last + 1, dim]).max()) for first, last in found)])
        limits = f"; the declared limits are {dataset.space.low[dim]:.3g} to {dataset.space.high[dim]:.3g}"
        yield from at_places(
            "out of range",
            places,
            f"action {name} reaches {worst:.3g} in size; nine in ten episodes stay within {low[dim]:.3g} to "
            f"{high[dim]:.3g}{limits if declared else ''}",
        )


def _most(values: np.ndarray, run: tuple[int, int]) -> float:
    return float(values[run[0] : run[1] + 1].max())


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def teleports(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[Finding]:
    """Single steps of the state that are much larger than the fastest usual ones and than the steps beside them."""
    steps = {e.index: np.abs(np.diff(dataset.state(e).astype(np.float64), axis=0)) for e in labelled if e.length > 2}
    if not steps or dataset.space.num_state == 0:
        return
    low, high = usual_range([dataset.state(e) for e in labelled])
    usual = np.quantile(np.concatenate(list(steps.values())), 0.99, axis=0)
    floor = np.maximum(usual, 0.01 * (high - low)) + 1e-6
    places: list[Place] = []
    for index, step in steps.items():
        padded = np.concatenate([step[1:2], step, step[-2:-1]])
        beside = np.maximum(padded[:-2], padded[2:])
        odd = np.any((step > JUMP * floor) & (step > JUMP * beside), axis=1)
        places += [(index, (first, last + 1)) for first, last in runs(odd)]
    yield from at_places(
        "teleport",
        places,
        f"the state jumps by more than {JUMP:.0f} times its fastest usual step and the steps beside it",
    )


def wrong_signs(dataset: LeRobotDataset, labelled: Sequence[Episode]) -> Iterator[tuple[int, Finding]]:
    """Action dimensions that move the state the other way in some episodes; yields the dimension with each finding.

    For each action the state that it explains best is found (change over a few frames, given that state), and a line
    fitted to the episodes whose own effect has the more frequent sign. An episode that the mirrored action explains
    much better is odd; the line is then fitted again without the odd ones.
    """
    members = [e for e in labelled if e.length > 4]
    if len(members) < 2 * MIN_EPISODES or dataset.space.num_state == 0:
        return
    pooled = np.concatenate([dataset.actions(e) for e in members]).astype(np.float64)
    bottom, top = np.quantile(pooled, [0.01, 0.99], axis=0)
    for dim, name in enumerate(dataset.space.action_names):
        if top[dim] - bottom[dim] < 1e-6:
            continue
        found = _flipped(dataset, members, dim, (float(bottom[dim]), float(top[dim])))
        if found is None:
            continue
        odd, state = found
        yield (
            dim,
            Finding(
                kind="gripper polarity" if _is_gripper(name) else "sign flip",
                episodes=tuple(odd),
                frames=(),
                what=f"in episodes {stretches(odd)} action {name} moves state {dataset.space.state_names[state]} the "
                f"other way than in the other {len(members) - len(odd)} (the mirrored action explains it better)",
            ),
        )


def _is_gripper(name: str) -> bool:
    return any(part in name.lower() for part in GRIPPERS)


def _flipped(
    dataset: LeRobotDataset, members: Sequence[Episode], dim: int, limits: tuple[float, float]
) -> tuple[list[int], int] | None:
    """The odd episodes and the state that shows it; None when nothing does, or when the action explains no state."""
    horizons = sorted({1, max(1, round(0.1 * dataset.fps)), max(1, round(0.3 * dataset.fps))})
    best: tuple[float, int, int] | None = None
    names = [name.lower() for name in dataset.space.state_names]
    states = list(range(len(names)))
    if _is_gripper(dataset.space.action_names[dim]):  # Some motion of the hand goes with it in every task.
        states = [i for i in states if _is_gripper(names[i]) or any(word in names[i] for word in OPENINGS)] or states
    for ahead in horizons:
        for state in states:
            rows = [_lines(dataset, e, dim, limits, state, ahead) for e in members if e.length > ahead + 2]
            if len(rows) < 2 * MIN_EPISODES:
                continue
            x, y = (np.concatenate(part) for part in zip(*rows, strict=True))
            # An episode's own sign does not matter here: it is the size of the effect that chooses the state.
            told = np.mean([abs(_partial(a, b)) for a, b in rows])
            told = max(float(told), abs(_partial(x, y)))
            if best is None or told > best[0] + 0.02:
                best = (told, state, ahead)
    if best is None or best[0] < 0.3:
        return None
    _, state, ahead = best
    usable = {e.index: _lines(dataset, e, dim, limits, state, ahead) for e in members if e.length > ahead + 2}
    signs = {index: _partial(*rows) for index, rows in usable.items()}
    most = sum(np.sign(value) for value in signs.values() if abs(value) > 0.3)
    odd = {index for index, value in signs.items() if abs(value) > 0.3 and value * most < 0}
    for better in (0.9, 0.7, 0.5, 0.5, 0.5):  # Easily at first: many odd ones bend the line to themselves.
        kept = [index for index in usable if index not in odd]
        x, y = (np.concatenate(part) for part in zip(*(usable[index] for index in kept), strict=True))
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        if abs(_partial(x, y)) < 0.3:
            return None
        found = set()
        usual = float(np.median([_error(usable[i], weights) for i in kept]))
        for index, rows in usable.items():
            turned = rows[0].copy()
            turned[:, 0] = sum(limits) - turned[:, 0]
            plain, mirrored = _error(rows, weights), _error((turned, rows[1]), weights)
            if mirrored < better * plain and plain > 2 * usual:
                found.add(index)
        odd = found
        if len(odd) > len(usable) // 2:
            return None
    return (sorted(odd), state) if odd else None


def _lines(
    dataset: LeRobotDataset, episode: Episode, dim: int, limits: tuple[float, float], state: int, ahead: int
) -> tuple[np.ndarray, np.ndarray]:
    """Regressors (action inside its usual limits, state, 1) and the change of that state over ``ahead`` frames."""
    values = dataset.state(episode)[:, state].astype(np.float64)
    action = dataset.actions(episode)[:-ahead, dim].astype(np.float64).clip(*limits)
    return np.column_stack([action, values[:-ahead], np.ones(len(action))]), values[ahead:] - values[:-ahead]


def _error(rows: tuple[np.ndarray, np.ndarray], weights: np.ndarray) -> float:
    return float(((rows[0] @ weights - rows[1]) ** 2).mean()) + 1e-12


def _partial(x: np.ndarray, y: np.ndarray) -> float:
    """Correlation of the action (column 0) with the change, given the other regressors; 0 where one does not vary."""
    rest = x[:, 1:]
    both = np.column_stack([x[:, 0], y])
    both = both - rest @ np.linalg.lstsq(rest, both, rcond=None)[0]
    size = math.sqrt(float(both[:, 0] @ both[:, 0]) * float(both[:, 1] @ both[:, 1]))
    scale = np.abs(x[:, 0]).max() * np.abs(y).max() * len(y)
    return float(both[:, 0] @ both[:, 1] / size) if size > 1e-9 * scale and size > 1e-12 else 0.0


def change_points(
    dataset: LeRobotDataset, labelled: Sequence[Episode], known: Mapping[int, set[int]]
) -> Iterator[Finding]:
    """Stretches of episodes, in the order of sessions and recording, whose actions differ from the rest.

    Scanned are the mean and the (log) spread of each action per episode, less what is usual under the same
    instruction; a stretch is reported when no reshuffling of the episodes makes one that stands out as much.
    ``known`` are episodes per action dimension whose sign is wrong already.
    """
    ordered = sorted(labelled, key=lambda episode: (episode.session, episode.index))
    if len(ordered) < 2 * MIN_EPISODES:
        return
    pooled = np.concatenate([dataset.actions(e) for e in ordered]).astype(np.float64)
    low, high = np.quantile(pooled, [0.005, 0.995], axis=0)
    scale = pooled.clip(low, high).std(axis=0)
    moving = np.flatnonzero(scale > 1e-6)
    if not len(moving):
        return
    clipped = [dataset.actions(e).astype(np.float64).clip(low, high)[:, moving] / scale[moving] for e in ordered]
    means = np.array([part.mean(axis=0) for part in clipped])
    spreads = np.array([np.log(part.std(axis=0) + 0.05) for part in clipped])
    features = np.concatenate([means, spreads], axis=1)
    wrong = np.zeros(features.shape, bool)
    for column, dim in enumerate(moving.tolist()):
        rows = [row for row, episode in enumerate(ordered) if episode.index in known.get(dim, set())]
        wrong[rows, column] = wrong[rows, column + len(moving)] = True
    groups = _by_text(ordered)
    features = _centred(features, groups, wrong)
    for _ in range(8):
        found = _stretch(features, groups)
        if found is None:
            return
        yield _change(dataset, ordered, found, moving.tolist())
        features = _centred(features - np.outer(found.inside, found.effects), groups, np.zeros(features.shape, bool))


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Rows that differ from the others of their groups: by how much in each column, clearest in ``column``."""

    inside: np.ndarray
    effects: np.ndarray
    column: int
    z: float


def _change(dataset: LeRobotDataset, ordered: Sequence[Episode], found: _Stretch, moving: Sequence[int]) -> Finding:
    members = [episode for episode, inside in zip(ordered, found.inside, strict=True) if inside]
    effect = float(found.effects[found.column])
    mean = found.column < len(moving)
    amount = f"{effect:+.2f} standard deviations" if mean else f"times {math.exp(effect):.2f}"
    sessions = {episode.session for episode in members}
    named = f" (session {stretches(sessions)})" if len({e.session for e in ordered}) > 1 else ""
    return Finding(
        kind="change point",
        episodes=tuple(sorted(e.index for e in members)),
        frames=(),
        what=f"in episodes {stretches(e.index for e in members)}{named} the {'mean' if mean else 'spread'} of action "
        f"{dataset.space.action_names[moving[found.column % len(moving)]]} is {amount} from the others under the same "
        f"instructions ({found.z:.0f} standard errors)",
    )


def _by_text(episodes: Sequence[Episode]) -> list[np.ndarray]:
    """Rows of each instruction told often enough to have an average; the others together."""
    counts = Counter(episode.text for episode in episodes)
    groups: dict[str, list[int]] = defaultdict(list)
    for row, episode in enumerate(episodes):
        groups[episode.text if counts[episode.text] >= MIN_EPISODES else ""].append(row)
    return [np.array(rows) for rows in groups.values()]


def _centred(features: np.ndarray, groups: Sequence[np.ndarray], left_out: np.ndarray) -> np.ndarray:
    """Less the mean of each group; what is left out counts in no mean and becomes 0."""
    features = features.copy()
    for rows in groups:
        count = (~left_out[rows]).sum(axis=0)
        features[rows] -= np.where(left_out[rows], 0.0, features[rows]).sum(axis=0) / np.maximum(count, 1)
    return np.where(left_out, 0.0, features)


def _stretch(features: np.ndarray, groups: Sequence[np.ndarray], draws: int = 500) -> _Stretch | None:
    """The stretch that stands out most, if it stands out of all reshufflings within groups and is not small."""
    units = _units(features, groups)
    spans = _spans(len(features), groups)
    z, first, last, column = _scan(units, spans)
    inside = np.zeros(len(features))
    inside[first : last + 1] = 1
    weight = _centred(inside[:, None], groups, np.zeros((len(inside), 1), bool))[:, 0]
    effects = weight @ features / max(float(weight @ weight), 1e-9)
    if z < 4 or abs(effects[column]) < LEAST_CHANGE:
        return None
    generator = np.random.default_rng(0)
    for _ in range(draws):
        shuffled = units.copy()
        for rows in groups:
            shuffled[rows] = units[generator.permutation(rows)]
        if _scan(shuffled, spans)[0] >= z:
            return None
    return _Stretch(inside=inside.astype(bool), effects=effects, column=column, z=z)


def _units(features: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """In usual deviations of each group, cut at `CLIPPED`, centred: a few odd episodes must not hide a change."""
    units = features.copy()
    for rows in groups:
        usual = np.abs(features[rows] - np.median(features[rows], axis=0))
        units[rows] /= np.maximum(1.48 * np.median(usual, axis=0), 0.1 * LEAST_CHANGE)
        units[rows] = units[rows].clip(-CLIPPED, CLIPPED)
        units[rows] -= units[rows].mean(axis=0)
    return units / (units.std(axis=0) + 1e-9)


def _spans(num: int, groups: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
    """Lengths of stretches, `MIN_EPISODES` to half of the rows, and for each start what the stretch's mean can weigh.

    That is ``sum of m (1 - m / n)`` over groups, ``m`` of whose ``n`` rows are inside: a stretch that is all of a group
    cannot be told from what its instruction asks for, and of two parts of a group the smaller one is the odd one.
    """
    lengths = np.arange(MIN_EPISODES, num // 2 + 1)
    if len(lengths) > 24:
        lengths = np.unique(np.geomspace(MIN_EPISODES, num // 2, 24).round().astype(int))
    member = np.zeros((num, len(groups)))
    for column, rows in enumerate(groups):
        member[rows, column] = 1
    total = np.concatenate([np.zeros((1, len(groups))), np.cumsum(member, axis=0)])
    spans = []
    for length in lengths.tolist():
        counts = total[length:] - total[:-length]
        touched = np.where(counts > 0, total[-1], 0).sum(axis=1)
        weight = length - (counts**2 / np.maximum(total[-1], 1)).sum(axis=1)
        spans.append((length, np.where(length <= LARGEST_SHARE * touched, weight, 0.0)))
    return spans


def _scan(units: np.ndarray, spans: Sequence[tuple[int, np.ndarray]]) -> tuple[float, int, int, int]:
    """Largest |z| of a stretch of rows against the rest of their groups; its first and last row and its column."""
    total = np.concatenate([np.zeros((1, units.shape[1])), np.cumsum(units, axis=0)])
    best = (0.0, 0, 0, 0)
    for length, weight in spans:
        z = np.abs(total[length:] - total[:-length]) / np.sqrt(np.maximum(weight, 1e-9))[:, None]
        z[weight < 1.5] = 0.0
        start, column = np.unravel_index(int(z.argmax()), z.shape)
        if z[start, column] > best[0]:
            best = (float(z[start, column]), int(start), int(start) + length - 1, int(column))
    return best
