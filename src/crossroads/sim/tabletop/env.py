"""The tabletop as a gymnasium environment: one instruction per episode, chosen among several that the scene admits.

The seed fixes everything: the layout, the instruction, the perturbation and the noise. The same seed with another
``options={"task": ...}`` gives the same scene under another instruction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np

from crossroads.errors import InputError
from crossroads.geometry import CameraPose, Geometry, Mark
from crossroads.sim.tabletop import language, perturb, scene
from crossroads.sim.tabletop.layout import Layout, sample_layout
from crossroads.sim.tabletop.perturb import NONE, Perturbation
from crossroads.sim.tabletop.tasks import (
    ALL_FAMILIES,
    FAMILIES,
    Pairing,
    Split,
    Task,
    check_families,
    check_split,
    leftmost_task,
    progress,
    solved_tasks,
    valid_tasks,
)
from crossroads.sim.tabletop.world import STEP_M, Snapshot, World
from crossroads.space import ActionSpace

TABLETOP_SPACE = ActionSpace(
    robot="tabletop",
    action_names=("dx", "dy", "dz", "jaw"),
    action_units=("m", "m", "m", "1"),
    low=(-STEP_M, -STEP_M, -STEP_M, -1.0),
    high=(STEP_M, STEP_M, STEP_M, 1.0),
    state_names=("x", "y", "z", "jaw_m"),
    control_hz=scene.CONTROL_HZ,
)
HAND = (("x", (1.0, 0.0, 0.0)), ("y", (0.0, 1.0, 0.0)), ("z", (0.0, 0.0, 1.0)))
TABLETOP_GEOMETRY = Geometry(  # as `scene` has it
    cameras=(
        CameraPose(
            camera="front", position_m=(0.0, -0.445, 0.85), right=(1.0, 0.0, 0.0), up=(0.0, 0.866, 0.5), fovy_deg=28.8
        ),
        CameraPose(
            camera="wrist",
            position_m=(0.0, -0.075, 0.125),
            right=(1.0, 0.0, 0.0),
            up=(0.0, 0.848, 0.53),
            fovy_deg=78.0,
            follows=HAND,
        ),
    ),
    marks=(
        Mark(name="palm", position_m=(0.0, 0.0, 0.101), follows=HAND),
        Mark(name="finger_left", position_m=(0.0, 0.0, 0.0), follows=(*HAND, ("jaw_m", (-0.5, 0.0, 0.0)))),
        Mark(name="finger_right", position_m=(0.0, 0.0, 0.0), follows=(*HAND, ("jaw_m", (0.5, 0.0, 0.0)))),
        Mark(name="grip", position_m=(0.0, 0.0, 0.0), follows=HAND),
    ),
    gripper="jaw_m",
    open_above=0.06,
)
"""Of the jaw's 0.08 m a grasped object leaves at most 0.06."""
MIN_TASKS = 8
CAMERAS = ("front", "wrist")
Observations = dict[str, Any]


def draw_scene(seed: int, families: tuple[str, ...], split: Split) -> tuple[Layout, Task]:
    """The layout and the default task of a seed: family first, so that all families are equally frequent."""
    rng = np.random.default_rng((seed, 1))
    if split == "held_out":
        families = tuple(name for name in families if language.can_be_held_out(name))
    family = families[int(rng.integers(len(families)))]
    kinds = FAMILIES[family].kinds
    kind = kinds[int(rng.integers(len(kinds)))]
    for _ in range(2000):
        layout = sample_layout(rng, kind)
        tasks = valid_tasks(layout, (family,), split)
        if tasks and len(valid_tasks(layout, ALL_FAMILIES)) >= MIN_TASKS:
            return layout, tasks[int(rng.integers(len(tasks)))]
    raise AssertionError(f"no {kind} scene admits {MIN_TASKS} tasks with {family!r} in the {split!r} split")


class TabletopEnv(gymnasium.Env[Observations, np.ndarray]):
    """One table, one gripper, one instruction."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": scene.CONTROL_HZ}  # noqa: RUF012
    space = TABLETOP_SPACE
    control_hz = scene.CONTROL_HZ

    def __init__(
        self,
        *,
        families: tuple[str, ...] = ALL_FAMILIES,
        image_hw: tuple[int, int] = (64, 64),
        max_steps: int | None = None,
        perturbation: Perturbation = NONE,
        paraphrase: bool = False,
        split: Split = "train",
        pairing: Pairing = "any",
        cameras: tuple[str, ...] = CAMERAS,
        render_mode: str | None = None,
    ) -> None:
        check_families(families)
        _check_cameras(cameras)
        check_split(families, split)
        self.families, self.image_hw, self.cameras = families, image_hw, cameras
        self.split: Split = split
        self.pairing: Pairing = pairing
        self._max_steps, self._perturbation, self._paraphrase = max_steps, perturbation, paraphrase
        self.render_mode = render_mode
        low, high = np.array(TABLETOP_SPACE.low, np.float32), np.array(TABLETOP_SPACE.high, np.float32)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        pictures = {name: gymnasium.spaces.Box(0, 255, (*image_hw, 3), np.uint8) for name in cameras}
        self.observation_space = gymnasium.spaces.Dict(
            {
                **pictures,
                "state": gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32),
                "instruction": gymnasium.spaces.Text(200, charset="abcdefghijklmnopqrstuvwxyz "),
            }
        )
        self.world = World()
        self.task = Task(family="", target="")
        self.valid_tasks: list[Task] = []
        self.start: Snapshot | None = None
        self._seed, self._num_steps, self._progress, self._touched = 0, 0, 0.0, ""
        self._noise = np.random.default_rng(0)

    # gymnasium --------------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Set the scene of ``seed``; ``options={"task": Task or index into valid_tasks}`` gives another instruction."""
        super().reset(seed=seed)
        self._seed = int(self.np_random.integers(2**31)) if seed is None else seed
        layout, task = draw_scene(self._seed, self.families, self.split)
        self._noise = np.random.default_rng((self._seed, 2))
        layout = perturb.move_start(layout, self._perturbation, self._noise)
        self.world.load(layout)
        perturb.apply(self.world, self._perturbation, self._noise)
        self.valid_tasks = [self._worded(other) for other in valid_tasks(layout, self.families, self.split)]
        if self.pairing == "leftmost":
            task = leftmost_task(layout, self.valid_tasks)
        self.task = self._chosen(task, options or {})
        self.start = self.world.snapshot()
        self._num_steps, self._touched = 0, ""
        self._progress = progress(self.task, layout, self.start, self.start)
        return self._observe(), self._info(self.start)

    def step(self, action: np.ndarray) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Move for 0.1 s; the reward is the gain in progress, so an episode's rewards add up to at most 1."""
        return self.play(np.asarray(action)[None])

    def play(
        self, chunk: np.ndarray, looks: tuple[int, ...] = ()
    ) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Up to k steps ``(k, 4)`` with one look at the end; stops when the episode does. The reward is their sum.

        ``looks``: after how many steps to look as well; ``info["passed"]`` holds what was seen, by number of steps.
        """
        assert self.start is not None, "reset the environment first"
        chunk = np.asarray(chunk, dtype=np.float64)
        if chunk.ndim != 2 or chunk.shape[1] != 4 or not len(chunk) or not np.isfinite(chunk).all():
            raise InputError(
                where="TabletopEnv.step",
                expected="4 finite numbers (dx, dy, dz, jaw)",
                got=f"shape {chunk.shape[1:]}: {chunk}",
                do="Check the policy's output.",
            )
        before, limit = self._progress, self._max_steps or FAMILIES[self.task.family].step_limit
        success = truncated = False
        now, num, passed = self.start, 0, dict[int, Observations]()
        for num, action in enumerate(chunk, start=1):
            self.world.step(action)
            self._num_steps += 1
            now = self.world.snapshot()
            if not self._touched and now.touching:
                self._touched = min(now.touching)
            self._progress = progress(self.task, self.world.layout, self.start, now)
            success = self._progress == 1.0
            truncated = self._num_steps >= limit and not success
            if success or truncated or num == len(chunk):
                break
            if num in looks:
                passed[num] = self._observe()
        obs = self._observe()
        passed |= {num: obs} if num in looks else {}
        return obs, self._progress - before, success, truncated, {**self._info(now), "passed": passed}

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The front camera's picture."""
        if self.render_mode is None:
            return None
        return self.world.paint(("front",), self.image_hw)["front"]

    # ours -------------------------------------------------------------------------------------------------------------

    def project(self, camera: str, xyz: np.ndarray) -> np.ndarray:
        """Where world points (..., 3) fall in a picture: (u right, v down), 0 to 1 inside."""
        return self.world.project(camera, xyz, self.image_hw)

    def achieved(self, now: Snapshot) -> tuple[str, ...]:
        """The instructions of this scene that the physical state now satisfies."""
        assert self.start is not None
        return tuple(task.text for task in solved_tasks(self.valid_tasks, self.world.layout, self.start, now))

    def _worded(self, task: Task) -> Task:
        if not self._paraphrase:
            return task
        rng = np.random.default_rng((self._seed, 3))
        unseen = self.split == "held_out"
        return replace(task, text=language.paraphrase(task.family, task.target, task.argument, rng, unseen=unseen))

    def _chosen(self, default: Task, options: dict[str, Any]) -> Task:
        wanted = options.get("task", default)
        if isinstance(wanted, Task):
            for task in self.valid_tasks:
                if task.key == wanted.key:
                    return task
        elif 0 <= int(wanted) < len(self.valid_tasks):
            return self.valid_tasks[int(wanted)]
        raise InputError(
            where=f"TabletopEnv.reset(seed={self._seed})",
            expected=f"one of this scene's {len(self.valid_tasks)} tasks",
            got=wanted.text or str(wanted.key) if isinstance(wanted, Task) else str(wanted),
            do=f"Valid here: {'; '.join(task.text for task in self.valid_tasks)}.",
        )

    def _observe(self) -> Observations:
        images = self.world.paint(self.cameras, self.image_hw) if self.cameras else {}
        state = np.array((*self.world.hand, self.world.jaw_m), dtype=np.float32)
        images, state = perturb.blur_senses(images, state, self._perturbation, self._noise)
        return {**images, "state": state, "instruction": self.task.text}

    def _info(self, now: Snapshot) -> dict[str, Any]:
        return {
            "task": self.task,
            "valid_tasks": self.valid_tasks,
            "seed": self._seed,
            "num_steps": self._num_steps,
            "success": self._progress == 1.0,
            "progress": self._progress,
            "touched": self._touched,
            "achieved": self.achieved(now),
            "object_positions": {name: tuple(map(float, xyz)) for name, xyz in now.positions.items()},
            "hand": tuple(map(float, now.hand)),
        }


def _check_cameras(cameras: tuple[str, ...]) -> None:
    for name in cameras:
        if name not in CAMERAS:
            raise InputError(
                where="TabletopEnv cameras", expected=f"names out of {CAMERAS}", got=repr(name), do="Remove it."
            )
