"""One table with physics: it is loaded with a layout, takes bounded hand motions, and tells its true state.

The hand hangs on three slide joints with critically damped position servos; an action moves the servo's target, which
is led smoothly over the physics steps of a control step and kept on a short leash of the real hand.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import numpy as np

from crossroads.sim.rendering import mujoco
from crossroads.sim.tabletop import scene
from crossroads.sim.tabletop.layout import Layout, Thing

HIDDEN_GROUP = 4
LEASH_M = 0.045
STEP_M = 0.03
PRESS_M = 0.005
"""A button that is down by this much counts as pressed."""
_SHARES = (np.arange(1, scene.NUM_SUBSTEPS + 1) / scene.NUM_SUBSTEPS)[:, None]
"""How far along its way the target is after each physics step."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The true state of a table at one moment; predicates and experts read nothing else."""

    hand: np.ndarray
    jaw_m: float
    hand_step_m: float
    """How far the hand moved in the last control step."""
    positions: dict[str, np.ndarray]
    """Centre of every object, button cap, bin floor, drawer bar and slider knob, by name."""
    speeds: dict[str, float]
    touching: frozenset[str]
    pressed_m: dict[str, float]
    drawer_m: float = 0.0
    slider_m: float = 0.0
    max_height_m: dict[str, float] = field(default_factory=dict)
    """Highest centre of each object since the episode began."""
    pressed_order: tuple[str, ...] = ()
    """Buttons in the order in which the hand pressed them since the episode began."""


class World:
    """A copy of the compiled table, loaded with one layout at a time."""

    def __init__(self) -> None:
        self.model = copy.copy(scene.compiled())
        self.data = mujoco.MjData(self.model)
        model = self.model
        self._table_rgba = model.geom("table").rgba.copy()
        self._hand_qpos = np.array([model.joint(f"hand_{axis}").qposadr[0] for axis in "xyz"])
        self._finger_qpos = np.array([model.joint(f"finger_{side}").qposadr[0] for side in ("left", "right")])
        self._of_hand = np.zeros(model.ngeom, dtype=bool)
        self._of_hand[[model.geom(name).id for name in ("palm", "finger_left", "finger_right")]] = True
        self._object_bodies = [model.body(f"object{i}").id for i in range(scene.NUM_OBJECTS)]
        joints = [model.joint(f"object{i}") for i in range(scene.NUM_OBJECTS)]
        self._object_joints = [(int(joint.qposadr[0]), int(joint.dofadr[0])) for joint in joints]
        self._button_qpos = [int(model.joint(f"button{i}").qposadr[0]) for i in range(scene.NUM_BUTTONS)]
        self._drawer_slider_qpos = [int(model.joint(name).qposadr[0]) for name in ("drawer", "slider")]
        self._object_geoms = [
            {shape: model.geom(f"object{i}_{shape}").id for shape in scene.SHAPES} for i in range(scene.NUM_OBJECTS)
        ]
        self.camera_ids = {name: model.camera(name).id for name in ("front", "wrist")}
        self._fixed = model.geom_contype.copy(), model.geom_conaffinity.copy(), model.geom_rgba.copy()
        self._layout: Layout | None = None
        self._names: dict[int, str] = {}
        self._target = np.zeros(3)
        self._max_height: dict[str, float] = {}
        self._pressed_order: tuple[str, ...] = ()
        self._snapshot: Snapshot | None = None
        self._last_hand = np.zeros(3)

    @property
    def layout(self) -> Layout:
        assert self._layout is not None, "load a layout first"
        return self._layout

    def load(self, layout: Layout) -> None:
        """Put everything where the layout says, at rest, with the jaw open."""
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        self._layout = layout
        self._names, self._snapshot = {}, None
        for i in range(scene.NUM_OBJECTS):
            self._load_object(i, layout.objects[i] if i < len(layout.objects) else None)
        for i in range(scene.NUM_BUTTONS):
            thing = layout.buttons[i] if i < len(layout.buttons) else None
            self._load_fixture(f"button{i}", thing, coloured=(f"button{i}_cap",))
        for i in range(scene.NUM_BINS):
            thing = layout.bins[i] if i < len(layout.bins) else None
            sides = ("left", "right", "near", "far", "floor")
            self._load_fixture(f"bin{i}", thing, coloured=tuple(f"bin{i}_{side}" for side in sides))
        self._load_fixture("drawer", layout.drawer, coloured=())
        self._load_fixture("slider", layout.slider, coloured=())
        for i in range(scene.NUM_DISTRACTORS):
            self._load_fixture(f"distractor{i}", None, coloured=())
        data.joint("drawer").qpos[0] = layout.drawer_open_m
        data.joint("slider").qpos[0] = layout.slider_m
        self._target = np.array(layout.hand)
        data.qpos[self._hand_qpos] = layout.hand
        data.qpos[self._finger_qpos] = scene.FINGER_TRAVEL_M
        data.ctrl[:3] = layout.hand
        data.ctrl[3:] = scene.FINGER_TRAVEL_M
        mujoco.mj_forward(model, data)
        self._last_hand = self.hand
        self._pressed_order = ()
        self._max_height = {thing.name: thing.half_height for thing in layout.objects}

    def _load_object(self, index: int, thing: Thing | None) -> None:
        model, data = self.model, self.data
        body = model.body(f"object{index}").id
        joint = data.joint(f"object{index}")
        for shape, geom in self._object_geoms[index].items():
            shown = thing is not None and thing.shape == shape
            model.geom_group[geom] = 0 if shown else HIDDEN_GROUP
            model.geom_contype[geom] = model.geom_conaffinity[geom] = int(shown)
            if shown and thing is not None:
                model.geom_size[geom] = (thing.half_size, thing.half_height, thing.half_height)
                if shape == "cube":
                    model.geom_size[geom] = thing.half_size
                model.geom_rgba[geom, :3] = scene.COLOURS[thing.colour]
                self._names[geom] = thing.name
        if thing is None:
            # A parked object floats: its weight is carried, so it costs no contact.
            joint.qpos[:] = (scene.PARKED_X + index, 0, 0.1, 1, 0, 0, 0)
            data.xfrc_applied[body, 2] = scene.OBJECT_MASS_KG * -model.opt.gravity[2]
            return
        data.xfrc_applied[body] = 0
        half = thing.yaw / 2
        joint.qpos[:] = (thing.x, thing.y, thing.half_height, np.cos(half), 0, 0, np.sin(half))

    def _load_fixture(self, name: str, thing: Thing | None, *, coloured: tuple[str, ...]) -> None:
        model = self.model
        body = model.body(name).id
        index = int(name[-1]) if name[-1].isdigit() else 0
        row = ("object", "button", "bin", "drawer", "slider", "distractor").index(name.rstrip("0123456789"))
        parked = (scene.PARKED_X + index, float(row), 0.0)
        model.body_pos[body] = parked if thing is None else (thing.x, thing.y, 0.0)
        for geom in np.flatnonzero((model.geom_bodyid == body) | (model.body_parentid[model.geom_bodyid] == body)):
            model.geom_group[geom] = HIDDEN_GROUP if thing is None else 0
            if thing is not None:
                self._names[int(geom)] = thing.name
        for geom in coloured:
            if thing is not None:
                model.geom(geom).rgba[:3] = scene.COLOURS[thing.colour]

    def show_distractor(self, index: int, x: float, y: float) -> None:
        """Stand one unnamed thing on the table until the next load."""
        thing = Thing(colour="", shape="distractor", x=x, y=y)
        self._load_fixture(f"distractor{index}", thing, coloured=())

    def step(self, action: np.ndarray) -> None:
        """Move for one control step: (dx, dy, dz) metres and the jaw command in [-1 closed, 1 open]."""
        ctrl = self.data.ctrl
        start = ctrl[:3].copy()
        wanted = np.clip(self._target + np.clip(action[:3], -STEP_M, STEP_M), scene.HAND_LOW, scene.HAND_HIGH)
        self._target = np.clip(wanted, self.hand - LEASH_M, self.hand + LEASH_M)
        ctrl[3:] = (np.clip(action[3], -1.0, 1.0) + 1) / 2 * scene.FINGER_TRAVEL_M
        self._last_hand, self._snapshot = self.hand, None
        for headed in start + (self._target - start) * _SHARES:
            ctrl[:3] = headed
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_kinematics(self.model, self.data)
        for body, thing in zip(self._object_bodies, self.layout.objects, strict=False):
            height = float(self.data.xpos[body, 2])
            self._max_height[thing.name] = max(self._max_height[thing.name], height)
        for place, thing in zip(self._button_qpos, self.layout.buttons, strict=False):
            is_last = self._pressed_order[-1:] == (thing.name,)
            if not is_last and -self.data.qpos[place] > PRESS_M and thing.name in self.touching():
                self._pressed_order += (thing.name,)

    @property
    def hand(self) -> np.ndarray:
        """The point between the fingertips."""
        return self.data.qpos[self._hand_qpos].copy()

    @property
    def jaw_m(self) -> float:
        """The gap between the fingers."""
        return float(self.data.qpos[self._finger_qpos].sum())

    @property
    def target(self) -> np.ndarray:
        """Where the hand's servos are headed."""
        return self._target.copy()

    def touching(self) -> frozenset[str]:
        """Names of what a finger or the palm is in contact with."""
        contacts = self.data.contact.geom
        if len(contacts) == 0:
            return frozenset()
        by_hand = self._of_hand[contacts]
        others = contacts[:, ::-1][by_hand]
        return frozenset(self._names[int(geom)] for geom in others if int(geom) in self._names)

    def snapshot(self) -> Snapshot:
        """Everything that a success predicate or an expert may know; made once per control step."""
        if self._snapshot is None:
            self._snapshot = self._make_snapshot()
        return self._snapshot

    def _make_snapshot(self) -> Snapshot:
        data, layout = self.data, self.layout
        positions, speeds, pressed = {}, {}, {}
        for (place, speed), thing in zip(self._object_joints, layout.objects, strict=False):
            positions[thing.name] = data.qpos[place : place + 3].copy()
            speeds[thing.name] = math.hypot(*data.qvel[speed : speed + 3])
        for place, thing in zip(self._button_qpos, layout.buttons, strict=False):
            depth = -float(data.qpos[place])
            pressed[thing.name] = depth
            positions[thing.name] = np.array((thing.x, thing.y, scene.BUTTON_TOP_M - depth))
        for thing in layout.bins:
            positions[thing.name] = np.array((thing.x, thing.y, 0.003))
        drawer_m, slider_m = (float(data.qpos[place]) for place in self._drawer_slider_qpos)
        if layout.drawer is not None:
            bar_y = layout.drawer.y - scene.DRAWER_BAR_M - drawer_m
            positions["drawer"] = np.array((layout.drawer.x, bar_y, 0.022))
        if layout.slider is not None:
            positions["slider"] = np.array((layout.slider.x + slider_m, layout.slider.y, 0.03))
        return Snapshot(
            hand=self.hand,
            jaw_m=self.jaw_m,
            hand_step_m=math.dist(self.hand, self._last_hand),
            positions=positions,
            speeds=speeds,
            touching=self.touching(),
            pressed_m=pressed,
            drawer_m=drawer_m,
            slider_m=slider_m,
            max_height_m=dict(self._max_height),
            pressed_order=self._pressed_order,
        )

    def paint(self, cameras: tuple[str, ...], image_hw: tuple[int, int]) -> dict[str, np.ndarray]:
        """One picture per camera."""
        mujoco.mj_camlight(self.model, self.data)
        pictures = scene.painter().paint(
            self.model, self.data, tuple(self.camera_ids[name] for name in cameras), image_hw
        )
        return dict(zip(cameras, pictures, strict=True))

    def project(self, camera: str, points: np.ndarray, image_hw: tuple[int, int] = (64, 64)) -> np.ndarray:
        """Where world points (..., 3) fall in a camera's picture: (u right, v down), 0 to 1 inside the picture."""
        mujoco.mj_camlight(self.model, self.data)
        camera_id = self.camera_ids[camera]
        rotation = self.data.cam_xmat[camera_id].reshape(3, 3)
        local = (np.asarray(points, dtype=np.float64) - self.data.cam_xpos[camera_id]) @ rotation
        depth = np.maximum(-local[..., 2], 1e-6)
        scale = 1 / np.tan(np.deg2rad(self.model.cam_fovy[camera_id]) / 2)
        aspect = image_hw[1] / image_hw[0]
        u = 0.5 + 0.5 * scale * local[..., 0] / depth / aspect
        v = 0.5 - 0.5 * scale * local[..., 1] / depth
        return np.stack((u, v), axis=-1)
