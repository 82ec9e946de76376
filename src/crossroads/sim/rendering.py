"""Offscreen pictures of MuJoCo scenes in software or on a GPU, with the expensive extras switched off.

One GL context per process serves every model: making one costs more than a thousand pictures. `fast_render` is the
setting under which all our pictures are taken (no multisampling, shadow, reflection, skybox or haze: measured 18 times
faster than MuJoCo's defaults on a CPU); record it with every dataset, because it changes pixels.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib
import os
from typing import Any

from crossroads.errors import InputError

APT_LINE = "apt-get install -y --no-install-recommends libegl1 libgl1 libgl1-mesa-dri libegl-mesa0 libosmesa6"
FAST_RENDER = "offsamples=0, no shadow, no reflection, no skybox, no haze"


def choose_gl() -> str:
    """Pick the GL library for MuJoCo before it is imported; a choice the user made in MUJOCO_GL is kept."""
    chosen = os.environ.get("MUJOCO_GL", "")
    if not chosen:
        # EGL first: the same setting uses a GPU where there is one.
        for name, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
            if ctypes.util.find_library(library):
                chosen = name
                break
        else:
            raise InputError(
                where="rendering",
                expected="an OpenGL library that can draw without a screen (EGL or OSMesa)",
                got="none",
                do=f"Run: {APT_LINE}",
            )
        os.environ["MUJOCO_GL"] = chosen
    if chosen == "egl":
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    return chosen


choose_gl()
# Software GL draws small pictures fastest in the calling thread: one process per core scales, threads do not.
os.environ.setdefault("LP_NUM_THREADS", "0")

import numpy as np  # noqa: E402

# MuJoCo reads MUJOCO_GL when it is imported. It ships no types for its compiled half, hence the names for Any.
mujoco: Any = importlib.import_module("mujoco")
MjModel = Any
MjData = Any


def fast_render(model: MjModel) -> None:
    """Switch multisampling and the shadow map off in a model; call it before a context is made from the model."""
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 12, 8, 1


class Painter:
    """Draws any number of scenes of one model family at any size with one GL context.

    The context is made current for every painting, not once: whoever else draws in this process (a second painter,
    ``mujoco.Renderer``) takes the thread's current context and leaves none, and without one OpenGL reads nothing and
    says nothing, so that a picture would be whatever the memory held.
    """

    def __init__(self, model: MjModel) -> None:
        fast_render(model)
        self._width, self._height = int(model.vis.global_.offwidth), int(model.vis.global_.offheight)
        try:
            self._gl = importlib.import_module(f"mujoco.{choose_gl()}").GLContext(self._width, self._height)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except Exception as error:  # every GL back end raises its own kind of error
            raise _gl_error(error, f"Run: {APT_LINE}") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX", "mjRND_HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = 0
        self._option = mujoco.MjvOption()
        self._perturb = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value

    def paint(
        self, model: MjModel, data: MjData, cameras: tuple[int, ...], image_hw: tuple[int, int]
    ) -> list[np.ndarray]:
        """Pictures (h, w, 3) uint8 from each camera id; ``data`` must be up to date (``mj_forward``).

        Raises an `InputError` in a thread other than the one that draws already.
        """
        height, width = image_hw
        if height > self._height or width > self._width:
            raise InputError(
                where="rendering",
                expected=f"an image of at most {self._height}x{self._width}",
                got=f"{height}x{width}",
                do="Ask for a smaller image.",
            )
        try:
            self._gl.make_current()
        except Exception as error:
            raise _gl_error(error, "Draw in one thread; use processes (num_workers) to draw in parallel.") from error
        viewport = mujoco.MjrRect(0, 0, width, height)
        pictures = []
        for camera in cameras:
            self._camera.fixedcamid = camera
            mujoco.mjv_updateScene(
                model, data, self._option, self._perturb, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
            )
            mujoco.mjr_render(viewport, self._scene, self._context)
            picture = np.empty((height, width, 3), dtype=np.uint8)
            mujoco.mjr_readPixels(picture, None, viewport, self._context)
            pictures.append(np.ascontiguousarray(picture[::-1]))
        return pictures

    def __del__(self) -> None:
        # What a context owns goes by small numbers: freed while another context is current, the other's would go.
        with contextlib.suppress(Exception):  # at the interpreter's end OpenGL is already gone
            self._gl.make_current()
            self._context.free()


def _gl_error(error: Exception, do: str) -> InputError:
    return InputError(
        where="rendering",
        expected=f"a working OpenGL (MUJOCO_GL={os.environ.get('MUJOCO_GL', '')})",
        got=f"{type(error).__name__}: {error}",
        do=do,
    )
