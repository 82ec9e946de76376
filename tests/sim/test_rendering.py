"""A machine without OpenGL gets one sentence that says what to install."""

from __future__ import annotations

import ctypes.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from crossroads.errors import InputError
from crossroads.sim import rendering


def test_a_machine_without_gl_is_told_the_line_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(InputError, match="apt-get install"):
        rendering.choose_gl()


def test_egl_is_taken_before_osmesa_and_the_users_choice_before_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: name)
    assert rendering.choose_gl() == "egl"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.choose_gl() == "osmesa"


def test_an_image_larger_than_the_canvas_is_refused() -> None:
    from crossroads.sim.tabletop.world import World

    world = World()
    painter = rendering.Painter(world.model)
    with pytest.raises(InputError, match="at most 640x640"):
        painter.paint(world.model, world.data, (0,), (641, 64))


def test_who_else_draws_in_the_process_changes_no_picture() -> None:
    from crossroads.sim.tabletop.world import World

    world = World()
    rendering.mujoco.mj_forward(world.model, world.data)
    first = rendering.Painter(world.model)

    def drawn(painter: rendering.Painter) -> np.ndarray:
        return painter.paint(world.model, world.data, (0,), (48, 64))[0]

    alone = drawn(first)
    assert alone.std() > 10, "a picture of something"
    second = rendering.Painter(world.model)
    np.testing.assert_array_equal(drawn(first), alone)
    np.testing.assert_array_equal(drawn(second), alone)
    drawn(first)
    del second
    np.testing.assert_array_equal(drawn(first), alone)
    renderer = rendering.mujoco.Renderer(world.model, 48, 64)
    renderer.close()
    np.testing.assert_array_equal(drawn(first), alone)


def test_drawing_in_a_second_thread_is_refused_not_garbage() -> None:
    from crossroads.sim.tabletop.world import World

    world = World()
    painter = rendering.Painter(world.model)
    painter.paint(world.model, world.data, (0,), (48, 64))
    with ThreadPoolExecutor(1) as other, pytest.raises(InputError, match="num_workers"):
        other.submit(painter.paint, world.model, world.data, (0,), (48, 64)).result()
