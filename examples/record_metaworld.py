"""Records Meta-World demonstrations with LeRobot's own writer: a dataset that no crossroads code wrote.

Why: the pilot's offline layer must run on anybody's LeRobotDataset v3.0; this makes one without a robot and without a
download. Six tasks, an instruction for each (ours: the package has none), two cameras of 96 pixels, goal markers
hidden (Meta-World draws the goal into the picture), at Meta-World's own 80 Hz. Only successful episodes are kept.

    python3.12 -m venv metaworld-env                    # LeRobot 0.6 needs Python 3.12
    metaworld-env/bin/pip install 'lerobot[dataset]==0.6.1' metaworld==3.1.1 packaging     # brings mujoco==3.3.0
    MUJOCO_GL=egl metaworld-env/bin/python examples/record_metaworld.py --out data/metaworld --episodes 12
    crossroads pilot --data data/metaworld

Sources: Meta-World (Yu et al. 2019, arXiv 1910.10897; PyPI 3.1.1, MIT); LeRobot 0.6.1 (Apache-2.0). The rendering
switches (no multisampling, shadows, reflections, sky box, haze) make a software renderer about 18 times faster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from metaworld import policies
from metaworld.env_dict import ENV_CLS_MAP
from metaworld.sawyer_xyz_env import SawyerXYZEnv

INSTRUCTIONS = {
    "faucet-open-v3": "turn the faucet open",
    "faucet-close-v3": "turn the faucet closed",
    "drawer-open-v3": "pull the drawer open",
    "window-open-v3": "slide the window open",
    "button-press-topdown-v3": "press the button from above",
    "handle-press-v3": "push the handle down",
}
EXPERTS = {
    "faucet-open-v3": policies.SawyerFaucetOpenV3Policy,
    "faucet-close-v3": policies.SawyerFaucetCloseV3Policy,
    "drawer-open-v3": policies.SawyerDrawerOpenV3Policy,
    "window-open-v3": policies.SawyerWindowOpenV3Policy,
    "button-press-topdown-v3": policies.SawyerButtonPressTopdownV3Policy,
    "handle-press-v3": policies.SawyerHandlePressV3Policy,
}
CAMERAS = {"corner2": True, "gripperPOV": False}
"""Camera names, and whether Meta-World's picture stands on its head."""
NEAR_CORNER_M = (0.75, 0.075, 0.7)
"""Where LeRobot 0.6.1 moves camera corner2 to (envs/metaworld.py), so that the table fills the picture."""
MOST_STEPS = 300
STEPS_AFTER_SUCCESS = 10
NUM_STATE = 4
"""Hand x, y, z in metres and the opening of the gripper: the first four numbers of the observation."""


class Camera:
    """Renders an environment's cameras with everything switched off that costs time and says nothing."""

    def __init__(self, env: SawyerXYZEnv, pixels: int) -> None:
        self.env = env
        env.model.vis.quality.offsamples = 0
        env.model.vis.global_.offheight = env.model.vis.global_.offwidth = max(pixels, 96)
        env.model.cam_pos[env.model.camera("corner2").id] = NEAR_CORNER_M
        self.renderer = mujoco.Renderer(env.model, pixels, pixels)
        self.option = mujoco.MjvOption()
        self.option.sitegroup[:] = 0  # The goal markers are sites.

    def look(self) -> dict[str, np.ndarray]:
        pictures = {}
        for name, upside_down in CAMERAS.items():
            self.renderer.update_scene(self.env.data, camera=name, scene_option=self.option)
            for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
                self.renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
            picture = self.renderer.render()
            pictures[name] = np.ascontiguousarray(picture[::-1, ::-1] if upside_down else picture)
        return pictures


def make_env(task: str) -> SawyerXYZEnv:
    """A task with a new random layout at each reset, and with the goal in the expert's observation."""
    env = ENV_CLS_MAP[task]()
    env._freeze_rand_vec = False
    env._set_task_called = True
    env._partially_observable = False
    env.seeded_rand_vec = True
    return env


def demonstrate(env: SawyerXYZEnv, camera: Camera, task: str, seed: int) -> list[dict] | None:
    """One expert episode as LeRobot frames, or nothing when the expert failed."""
    env.seed(seed)
    observation, _ = env.reset()
    expert = EXPERTS[task]()
    frames, remaining = [], None
    for _ in range(MOST_STEPS):
        action = np.clip(expert.get_action(observation), -1.0, 1.0).astype(np.float32)
        frames.append(
            {f"observation.images.{name}": picture for name, picture in camera.look().items()}
            | {
                "observation.state": observation[:NUM_STATE].astype(np.float32),
                "action": action,
                "task": INSTRUCTIONS[task],
            }
        )
        observation, _, _, _, details = env.step(action)
        if remaining is None and details["success"] > 0:
            remaining = STEPS_AFTER_SUCCESS
        if remaining is not None:
            remaining -= 1
            if remaining <= 0:
                return frames
    return None


def main() -> None:
    reader = argparse.ArgumentParser(description="Record Meta-World demonstrations with LeRobot's writer.")
    reader.add_argument("--out", type=Path, required=True, help="folder to create")
    reader.add_argument("--episodes", type=int, default=12, help="successful episodes of each task")
    reader.add_argument("--pixels", type=int, default=96)
    arguments = reader.parse_args()
    if arguments.out.exists():
        reader.error(f"{arguments.out} exists already; choose another folder or remove it.")
    pixels = arguments.pixels
    features = {
        f"observation.images.{name}": {
            "dtype": "video",
            "shape": (pixels, pixels, 3),
            "names": ["height", "width", "channels"],
        }
        for name in CAMERAS
    }
    features["observation.state"] = {
        "dtype": "float32",
        "shape": (NUM_STATE,),
        "names": ["hand_x_m", "hand_y_m", "hand_z_m", "gripper"],
    }
    features["action"] = {"dtype": "float32", "shape": (4,), "names": ["delta_x", "delta_y", "delta_z", "gripper"]}
    first = make_env(next(iter(INSTRUCTIONS)))
    fps = round(1 / first.dt)
    first.close()
    dataset = LeRobotDataset.create(
        "local/metaworld", fps, features, root=arguments.out, robot_type="sawyer", use_videos=True
    )
    for task in INSTRUCTIONS:
        env = make_env(task)
        camera = Camera(env, pixels)
        kept, tried = 0, 0
        while kept < arguments.episodes:
            frames = demonstrate(env, camera, task, seed=1000 + tried)
            tried += 1
            if frames is None:
                if tried > 3 * arguments.episodes:
                    raise RuntimeError(f"{task}: only {kept} of {tried} episodes succeeded.")
                continue
            for frame in frames:
                dataset.add_frame(frame)
            dataset.save_episode(parallel_encoding=False)
            kept += 1
        camera.renderer.close()
        env.close()
        print(f"{task}: {kept} of {tried} episodes succeeded, the last with {len(frames or [])} frames", flush=True)
    dataset.finalize()


if __name__ == "__main__":
    main()
