"""Changes of a scene that leave its tasks as they are: the axes of LIBERO-Plus (arXiv 2510.13626) on our table.

`light`, `table` (background), `distractors` (layout), `camera`, `start` (robot start pose) and `noise` (sensors);
language is perturbed by `paraphrase=True` of the environment. Each is a strength from 0 (off) to 1 (hard).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from crossroads.errors import InputError
from crossroads.sim.rendering import mujoco
from crossroads.sim.tabletop import scene
from crossroads.sim.tabletop.layout import Layout, far_enough
from crossroads.sim.tabletop.world import World


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """Strength of each change, 0 to 1."""

    light: float = 0.0
    table: float = 0.0
    distractors: float = 0.0
    camera: float = 0.0
    start: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not 0.0 <= value <= 1.0:
                raise InputError(
                    where=f"Perturbation.{item.name}",
                    expected="a strength from 0 to 1",
                    got=repr(value),
                    do="Use 0 for off and 1 for the hardest setting.",
                )


NONE = Perturbation()


def move_start(layout: Layout, perturbation: Perturbation, rng: np.random.Generator) -> Layout:
    """Start the hand where no demonstration starts: higher and nearer to the border."""
    if perturbation.start == 0:
        return layout
    x, y, z = layout.hand
    angle = rng.uniform(0, 2 * np.pi)
    pull = perturbation.start
    x = (1 - pull) * x + pull * 0.2 * np.cos(angle)
    y = (1 - pull) * y + pull * 0.2 * np.sin(angle)
    return replace(layout, hand=(float(x), float(y), float(z + pull * 0.045)))


def apply(world: World, perturbation: Perturbation, rng: np.random.Generator) -> None:
    """Change light, table, distractors and camera of a freshly loaded world (all are reset first)."""
    model, plain = world.model, scene.compiled()
    model.light_diffuse[:], model.light_dir[:] = plain.light_diffuse, plain.light_dir
    model.vis.headlight.ambient[:] = plain.vis.headlight.ambient
    model.geom("table").rgba[:] = plain.geom("table").rgba
    model.cam_pos[:], model.cam_quat[:] = plain.cam_pos, plain.cam_quat
    if perturbation.light:
        model.light_diffuse[:] *= 1 + perturbation.light * rng.uniform(-0.8, 0.8)
        model.vis.headlight.ambient[:] *= 1 + perturbation.light * rng.uniform(-0.5, 0.4, size=3)
        model.light_dir[:] += perturbation.light * rng.uniform(-0.5, 0.5, size=3)
    if perturbation.table:
        colour = rng.uniform(0.15, 0.95, size=3)
        rgba = model.geom("table").rgba
        rgba[:3] += perturbation.table * (colour - rgba[:3])
    if perturbation.distractors:
        _add_distractors(world, max(1, round(perturbation.distractors * scene.NUM_DISTRACTORS)), rng)
    if perturbation.camera:
        front = world.camera_ids["front"]
        model.cam_pos[front] += perturbation.camera * rng.uniform(-0.06, 0.06, size=3)
        axis = rng.normal(size=3)
        turn, turned = np.empty(4), np.empty(4)
        angle = perturbation.camera * np.deg2rad(rng.uniform(-4, 4))
        mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), angle)
        mujoco.mju_mulQuat(turned, model.cam_quat[front], turn)
        model.cam_quat[front] = turned
    mujoco.mj_forward(model, world.data)


def _add_distractors(world: World, num: int, rng: np.random.Generator) -> None:
    """Put brown things that no instruction names where there is room."""
    for index in range(num):
        for _ in range(100):
            x, y = rng.uniform(-0.19, 0.19, size=2).tolist()
            if all(far_enough(x, y, "cube", other) for other in world.layout.things):
                world.show_distractor(index, x, y)
                break


def blur_senses(
    images: dict[str, np.ndarray], state: np.ndarray, perturbation: Perturbation, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Add noise to pictures (up to 25 grey levels) and to the state (up to 5 mm)."""
    if perturbation.noise == 0:
        return images, state
    noisy = {}
    for name, image in images.items():
        disturbed = image + rng.normal(0, 25 * perturbation.noise, size=image.shape)
        noisy[name] = np.clip(disturbed, 0, 255).astype(np.uint8)
    return noisy, (state + rng.normal(0, 0.005 * perturbation.noise, size=state.shape)).astype(np.float32)
