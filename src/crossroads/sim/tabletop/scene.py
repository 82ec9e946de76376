"""The physical table as MJCF: a pool of objects and fixtures that is compiled once and rearranged for every episode.

Compiling a model and opening a renderer costs 47 ms per episode; moving and recolouring a pool costs microseconds.
Every pool object carries all three shapes and shows one. Fixtures are static bodies, put anywhere through ``body_pos``.
Contacts: pyramidal cone, impratio 10, steps of 10 ms; `benchmarks/tabletop_experts.py` lists what they grasp and stack.
Axes: x right, y away from the front camera, z up, table top at z = 0; metres.
"""

from __future__ import annotations

import functools

from crossroads.sim.rendering import MjModel, Painter, fast_render, mujoco

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.08, 0.08),
    "green": (0.10, 0.62, 0.12),
    "blue": (0.10, 0.20, 0.92),
    "yellow": (0.97, 0.84, 0.05),
    "purple": (0.62, 0.12, 0.72),
    "cyan": (0.10, 0.85, 0.88),
}
SHAPES = ("cube", "cylinder", "ball")
TABLE_COLOUR = (0.70, 0.68, 0.64)
NUM_OBJECTS, NUM_BUTTONS, NUM_BINS, NUM_DISTRACTORS = 5, 3, 2, 3
OBJECT_MASS_KG = 0.1
CONTROL_HZ, TIMESTEP_S, NUM_SUBSTEPS = 10.0, 0.01, 10
HAND_LOW, HAND_HIGH = (-0.21, -0.21, 0.006), (0.21, 0.21, 0.18)
FINGER_TRAVEL_M, JAW_MAX_M = 0.04, 0.08
BIN_INNER_M, BIN_OUTER_M, BIN_HEIGHT_M = 0.045, 0.049, 0.022
BUTTON_RADIUS_M, BUTTON_TOP_M, BUTTON_TRAVEL_M = 0.027, 0.024, 0.009
DRAWER_TRAVEL_M, DRAWER_HALF_WIDTH_M, DRAWER_FACE_Y, DRAWER_BAR_M = 0.06, 0.05, 0.145, 0.038
SLIDER_TRAVEL_M, SLIDER_Y = 0.05, 0.17
PARKED_X = 3.0
MAX_IMAGE = 640


def _object_xml(index: int) -> str:
    kinds = (("cube", "box", "0.03 0.03 0.03"), ("cylinder", "cylinder", "0.03 0.03"), ("ball", "sphere", "0.03"))
    geoms = "".join(
        f'<geom name="object{index}_{shape}" type="{kind}" size="{size}" class="object"'
        + (' condim="6" friction="0.9 0.01 0.001"/>' if shape == "ball" else "/>")
        for shape, kind, size in kinds
    )
    inertia = OBJECT_MASS_KG * 0.048**2 / 6
    return (
        f'<body name="object{index}" pos="{PARKED_X + index} 0 0.1"><joint name="object{index}" type="free"/>'
        f'<inertial pos="0 0 0" mass="{OBJECT_MASS_KG}" diaginertia="{inertia} {inertia} {inertia}"/>{geoms}</body>'
    )


def _fixture_xml() -> str:
    """Buttons, bins, drawer, slider: static bodies placed by ``body_pos``, with their one moving joint inside."""
    parts = []
    for i in range(NUM_BUTTONS):
        parts.append(
            f'<body name="button{i}" pos="{PARKED_X + i} 1 0">'
            f'<geom name="button{i}_base" type="cylinder" size="{BUTTON_RADIUS_M} 0.006" pos="0 0 0.006"'
            ' rgba="0.25 0.25 0.27 1" class="fixture"/>'
            f'<body name="button{i}_cap" gravcomp="1"><joint name="button{i}" type="slide" axis="0 0 1" '
            f'range="-{BUTTON_TRAVEL_M} 0" stiffness="400" damping="4" armature="0.02"/>'
            f'<geom name="button{i}_cap" type="cylinder" size="0.022 0.006" pos="0 0 {BUTTON_TOP_M - 0.006}" '
            'mass="0.02" class="fixture"/></body></body>'
        )
    wall = (BIN_OUTER_M + BIN_INNER_M) / 2
    thick = (BIN_OUTER_M - BIN_INNER_M) / 2
    half = BIN_HEIGHT_M / 2
    for i in range(NUM_BINS):
        walls = "".join(
            f'<geom name="bin{i}_{side}" type="box" size="{sx} {sy} {half}" pos="{x} {y} {half}" class="fixture"/>'
            for side, sx, sy, x, y in (
                ("left", thick, BIN_OUTER_M, -wall, 0),
                ("right", thick, BIN_OUTER_M, wall, 0),
                ("near", BIN_OUTER_M, thick, 0, -wall),
                ("far", BIN_OUTER_M, thick, 0, wall),
            )
        )
        parts.append(
            f'<body name="bin{i}" pos="{PARKED_X + i} 2 0">{walls}<geom name="bin{i}_floor" type="box" '
            f'size="{BIN_INNER_M} {BIN_INNER_M} 0.0015" pos="0 0 0.0015" class="fixture"/></body>'
        )
    width, bar = DRAWER_HALF_WIDTH_M, DRAWER_BAR_M
    parts.append(
        f'<body name="drawer" pos="{PARKED_X} 3 0">'
        f'<geom name="drawer_cabinet" type="box" size="{width + 0.006} 0.045 0.03" pos="0 0.052 0.03" '
        'rgba="0.36 0.22 0.12 1" class="fixture"/>'
        '<body name="drawer_tray" gravcomp="1"><joint name="drawer" type="slide" axis="0 -1 0" '
        f'range="0 {DRAWER_TRAVEL_M}" damping="6" frictionloss="0.6" armature="0.05"/>'
        f'<geom name="drawer_face" type="box" size="{width} 0.004 0.022" pos="0 0.002 0.026" mass="0.05" '
        'rgba="0.62 0.42 0.24 1" class="fixture"/>'
        f'<geom name="drawer_tray" type="box" size="{width - 0.006} 0.035 0.004" pos="0 0.04 0.01" mass="0.05" '
        'rgba="0.62 0.42 0.24 1" class="fixture"/>'
        f'<geom name="drawer_bar" type="box" size="0.036 0.004 0.016" pos="0 -{bar} 0.022" mass="0.03" '
        'rgba="0.95 0.95 0.95 1" class="fixture"/>'
        f'<geom name="drawer_stem0" type="box" size="0.003 {bar / 2} 0.004" pos="-0.033 -{bar / 2} 0.012" mass="0.01" '
        'rgba="0.95 0.95 0.95 1" class="fixture"/>'
        f'<geom name="drawer_stem1" type="box" size="0.003 {bar / 2} 0.004" pos="0.033 -{bar / 2} 0.012" mass="0.01" '
        'rgba="0.95 0.95 0.95 1" class="fixture"/></body></body>'
    )
    parts.append(
        f'<body name="slider" pos="{PARKED_X} 4 0">'
        f'<geom name="slider_rail" type="box" size="{SLIDER_TRAVEL_M + 0.03} 0.012 0.005" pos="0 0 0.005" '
        'rgba="0.30 0.30 0.33 1" class="fixture"/>'
        '<body name="slider_knob" gravcomp="1"><joint name="slider" type="slide" axis="1 0 0" '
        f'range="-{SLIDER_TRAVEL_M} {SLIDER_TRAVEL_M}" damping="4" frictionloss="0.5" armature="0.05"/>'
        '<geom name="slider_knob" type="box" size="0.014 0.018 0.018" pos="0 0 0.030" mass="0.05" '
        'rgba="0.96 0.96 0.96 1" class="fixture"/></body></body>'
    )
    for i, kind in enumerate(('type="ellipsoid" size="0.03 0.018 0.012"', 'type="capsule" size="0.011 0.022"',
                              'type="box" size="0.03 0.012 0.006"')):  # fmt: skip
        parts.append(
            f'<body name="distractor{i}" pos="{PARKED_X + i} 5 0"><geom name="distractor{i}" {kind} '
            'pos="0 0 0.012" rgba="0.45 0.33 0.22 1" class="fixture"/></body>'
        )
    return "".join(parts)


def _hand_xml() -> str:
    slides = "".join(
        f'<joint name="hand_{axis}" type="slide" axis="{vector}" range="{low - 0.02} {high + 0.02}" damping="2"/>'
        for axis, vector, low, high in zip("xyz", ("1 0 0", "0 1 0", "0 0 1"), HAND_LOW, HAND_HIGH, strict=True)
    )
    fingers = "".join(
        f'<body name="finger_{side}" gravcomp="1"><joint name="finger_{side}" type="slide" axis="{sign} 0 0" '
        f'range="0 {FINGER_TRAVEL_M}" damping="60" armature="0.05"/>'
        f'<geom name="finger_{side}" type="box" size="0.006 0.011 0.045" pos="{0.0062 * sign} 0 0.045" mass="0.05" '
        'friction="3 0.02 0.001" rgba="0.10 0.10 0.11 1" class="hand"/></body>'
        for side, sign in (("left", -1), ("right", 1))
    )
    return (
        f'<body name="hand" gravcomp="1">{slides}'
        '<geom name="palm" type="box" size="0.054 0.016 0.011" pos="0 0 0.101" mass="0.5" '
        'rgba="0.05 0.05 0.06 1" class="hand"/>'
        '<camera name="wrist" pos="0 -0.075 0.125" xyaxes="1 0 0 0 0.848 0.53" fovy="78"/>'
        f"{fingers}</body>"
    )


def scene_xml() -> str:
    """The whole table as MJCF text."""
    actuators = "".join(
        f'<position name="hand_{axis}" joint="hand_{axis}" kp="3500" kv="95" forcerange="-45 45"/>' for axis in "xyz"
    ) + "".join(
        f'<position name="finger_{side}" joint="finger_{side}" kp="2500" forcerange="-8 8"/>'
        for side in ("left", "right")
    )
    objects = "".join(_object_xml(i) for i in range(NUM_OBJECTS))
    excludes = "".join(f'<exclude body1="button{i}" body2="button{i}_cap"/>' for i in range(NUM_BUTTONS))
    table = " ".join(str(value) for value in TABLE_COLOUR)
    return f"""<mujoco model="crossroads tabletop">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{TIMESTEP_S}" cone="pyramidal" impratio="10" integrator="implicitfast"/>
  <visual>
    <global offwidth="{MAX_IMAGE}" offheight="{MAX_IMAGE}"/>
    <quality shadowsize="0" offsamples="0"/>
    <headlight ambient="0.42 0.42 0.42" diffuse="0.30 0.30 0.30" specular="0 0 0"/>
    <map znear="0.02" zfar="8"/>
  </visual>
  <statistic extent="1" center="0 0 0"/>
  <default>
    <default class="object"><geom condim="3" friction="0.9 0.01 0.0005" mass="0" rgba="1 1 1 1"/></default>
    <default class="fixture"><geom friction="0.8 0.005 0.0001" rgba="0.5 0.5 0.5 1"/></default>
    <default class="hand"><geom condim="4" friction="1 0.005 0.0001"/></default>
  </default>
  <worldbody>
    <light name="lamp" directional="true" castshadow="false" pos="0 0 2" dir="0.25 0.35 -0.9"
      diffuse="0.42 0.42 0.42" specular="0 0 0"/>
    <camera name="front" pos="0 -0.445 0.85" xyaxes="1 0 0 0 0.866 0.5" fovy="28.8"/>
    <geom name="table" type="box" size="0.45 0.45 0.05" pos="0 0 -0.05" rgba="{table} 1" friction="0.8 0.005 0.0001"/>
    {_hand_xml()}{objects}{_fixture_xml()}
  </worldbody>
  <contact>
    <exclude body1="drawer" body2="drawer_tray"/><exclude body1="slider" body2="slider_knob"/>
    {excludes}<exclude body1="finger_left" body2="finger_right"/>
  </contact>
  <equality><joint joint1="finger_left" joint2="finger_right" polycoef="0 1 0 0 0" solref="0.01 1"/></equality>
  <actuator>{actuators}</actuator>
</mujoco>"""


@functools.cache
def compiled() -> MjModel:
    """The model, compiled once per process; every world works on its own copy."""
    model = mujoco.MjModel.from_xml_string(scene_xml())
    fast_render(model)
    for i in range(NUM_OBJECTS):
        first = model.joint(f"object{i}").dofadr[0]
        # Light drag, so that a ball that was nudged comes to rest on the table: N s/m, then N m s/rad.
        model.dof_damping[first : first + 3] = 0.08
        model.dof_damping[first + 3 : first + 6] = 1e-4
    return model


@functools.cache
def painter() -> Painter:
    """The one renderer of this process."""
    return Painter(compiled())
