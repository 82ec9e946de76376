"""The same small recordings in every format that is read, written with the packages that people write them with."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
import zarr.storage
from PIL import Image
from recordings import FPS, Recorded

from crossroads.data.formats.tfrecord import example_class, masked_crc

STATE_SIZES = {"ee_states": 2, "gripper_states": 1}
"""How the three numbers of the recordings' state are cut in two arrays."""


def write_v2(path: Path, recorded: Sequence[Recorded], *, version: str = "v2.1", frame_index: bool = True) -> Path:
    """LeRobotDataset v2.0 or v2.1: one parquet and one mp4 (H.264 4:2:0 with B-frames, as LeRobot had) per episode."""
    tasks = sorted({one.text for one in recorded})
    episodes, start = [], 0
    for index, one in enumerate(recorded):
        length = len(one.actions)
        columns: dict[str, Any] = {
            "observation.state": pa.FixedSizeListArray.from_arrays(pa.array(one.state.ravel()), 3),
            "action": pa.FixedSizeListArray.from_arrays(pa.array(one.actions.ravel()), 2),
            "timestamp": pa.array((np.arange(length) / FPS).astype(np.float32)),
            "episode_index": pa.array(np.full(length, index)),
            "index": pa.array(np.arange(start, start + length)),
            "task_index": pa.array(np.full(length, tasks.index(one.text))),
            "next.reward": pa.array(np.zeros(length, np.float32)),
        }
        if frame_index:
            columns["frame_index"] = pa.array(np.arange(length))
        file = path / f"data/chunk-000/episode_{index:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        for camera, images in one.images.items():
            video = path / f"videos/chunk-000/observation.images.{camera}/episode_{index:06d}.mp4"
            encode(video, images)
        episodes.append({"episode_index": index, "tasks": [one.text], "length": length})
        start += length
    shapes: dict[str, tuple[str, list[int], Any]] = {
        "observation.state": ("float32", [3], ["a", "b", "c"]),
        "action": ("float32", [2], {"motors": ["x", "y"]}),
        "next.reward": ("float32", [1], None),
        "timestamp": ("float32", [1], None),
        "episode_index": ("int64", [1], None),
        "index": ("int64", [1], None),
        "task_index": ("int64", [1], None),
    }
    if frame_index:
        shapes["frame_index"] = ("int64", [1], None)
    height, width = recorded[0].images["front"].shape[1:3]
    for camera in recorded[0].images:
        shapes[f"observation.images.{camera}"] = ("video", [height, width, 3], ["height", "width", "channel"])
    info = {
        "codebase_version": version,
        "robot_type": "toy",
        "total_episodes": len(recorded),
        "total_frames": start,
        "total_tasks": len(tasks),
        "total_videos": 2 * len(recorded),
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": int(FPS),
        "splits": {"train": f"0:{len(recorded)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {key: {"dtype": d, "shape": s, "names": names} for key, (d, s, names) in shapes.items()},
    }
    meta = path / "meta"
    meta.mkdir(exist_ok=True)
    (meta / "info.json").write_text(json.dumps(info))
    lines(meta / "episodes.jsonl", episodes)
    lines(meta / "tasks.jsonl", [{"task_index": place, "task": text} for place, text in enumerate(tasks)])
    if version == "v2.0":
        (meta / "stats.json").write_text(
            json.dumps({"action": plain_stats(np.concatenate([r.actions for r in recorded]))})
        )
    else:
        stats = [{"action": plain_stats(r.actions), "observation.state": plain_stats(r.state)} for r in recorded]
        lines(meta / "episodes_stats.jsonl", [{"episode_index": i, "stats": s} for i, s in enumerate(stats)])
    return path


MODALITY = {
    "state": {"arm": {"start": 0, "end": 2}, "gripper": {"start": 2, "end": 3}},
    "action": {"arm": {"start": 0, "end": 2}},
    "video": {"ego": {"original_key": "observation.images.wrist"}},
    "annotation": {"human.validity": {}, "human.action.task_description": {}},
}


def write_groot(path: Path, recorded: Sequence[Recorded]) -> Path:
    """As GR00T has it: v2 without frame_index, words in an annotation column, short names in modality.json.

    The column of LeRobot itself, task_index, says something else everywhere."""
    write_v2(path, recorded, frame_index=False)
    words, tasks = "annotation.human.action.task_description", sorted({one.text for one in recorded})
    for index, one in enumerate(recorded):
        file = path / f"data/chunk-000/episode_{index:06d}.parquet"
        table = pq.read_table(file)
        other = pa.array(np.full(len(table), (tasks.index(one.text) + 1) % len(tasks)))
        told = table.append_column(words, table["task_index"])
        pq.write_table(told.set_column(told.column_names.index("task_index"), "task_index", other), file)
    info = json.loads((path / "meta/info.json").read_text())
    for name in (words, "annotation.human.validity"):
        info["features"][name] = {"dtype": "int64", "shape": [1], "names": None}
    (path / "meta/info.json").write_text(json.dumps(info))
    (path / "meta/modality.json").write_text(json.dumps(MODALITY))
    return path


def plain_stats(values: np.ndarray) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: getattr(values, name)(0).tolist() for name in ("min", "max", "mean", "std")}
    found["count"] = [len(values)]
    return found


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def encode(path: Path, images: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=int(FPS), options={"crf": "12", "bf": "2", "threads": "1"})
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def write_hdf5(folder: Path, recorded: Sequence[Recorded]) -> Path:
    """As LIBERO: one file per instruction, demonstrations named demo_0, demo_1 ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for text in sorted({one.text for one in recorded}):
        with h5py.File(folder / f"{text.replace(' ', '_')}_demo.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": int(FPS), "robots": ["Panda"]}})
            data.attrs["problem_info"] = json.dumps({"language_instruction": f'"{text}"'})
            for place, one in enumerate(one for one in recorded if one.text == text):
                group = data.create_group(f"demo_{place}")
                group["actions"] = one.actions.astype(np.float64)
                group["rewards"] = np.zeros(len(one.actions))
                group["obs/ee_states"], group["obs/gripper_states"] = one.state[:, :2], one.state[:, 2:]
                for camera, images in one.images.items():
                    group.create_dataset(f"obs/{camera}_rgb", data=images, chunks=True, compression="gzip")
    return folder


def in_hdf5_order(recorded: Sequence[Recorded]) -> list[Recorded]:
    return [one for text in sorted({one.text for one in recorded}) for one in recorded if one.text == text]


def write_zarr(path: Path, recorded: Sequence[Recorded], *, zarr_format: int = 2, umi: bool = False) -> Path:
    """As Diffusion Policy: all steps of all episodes behind each other; a zip where the name ends so."""
    store = zarr.storage.ZipStore(path, mode="w") if path.suffix == ".zip" else path
    root = zarr.open_group(store, mode="w", zarr_format=zarr_format)  # pyright: ignore[reportArgumentType]
    state = np.concatenate([one.state for one in recorded])
    arrays: dict[str, np.ndarray] = {
        "camera0_rgb": np.concatenate([one.images["front"] for one in recorded]),
    }
    if umi:
        arrays |= {
            "robot0_eef_pos": state,
            "robot0_eef_rot_axis_angle": state[:, ::-1].copy(),
            "robot0_gripper_width": state[:, :1],
            "robot0_demo_start_pose": state,
        }
    else:
        arrays |= {"state": state, "action": np.concatenate([one.actions for one in recorded])}
    for name, values in arrays.items():
        root.create_array(f"data/{name}", data=values, chunks=(7, *values.shape[1:]))
    root.create_array("meta/episode_ends", data=np.cumsum([len(one.actions) for one in recorded]))
    if path.suffix == ".zip":
        store.close()  # pyright: ignore[reportAttributeAccessIssue]
    return path


def write_rlds(folder: Path, recorded: Sequence[Recorded], *, num_shards: int = 2, picture: str = "png") -> Path:
    """As TensorFlow Datasets stores RLDS: features.json, dataset_info.json and shards of tf.train.Example."""
    folder.mkdir(parents=True, exist_ok=True)

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        sizes = {"dimensions": [str(size) for size in shape]} if shape else {}
        return {"tensor": {"shape": sizes, "dtype": dtype, "encoding": "none"}}

    def features(**parts: Any) -> dict[str, Any]:
        return {"featuresDict": {"features": parts}}

    height, width = recorded[0].images["front"].shape[1:3]
    shape = {"dimensions": [str(height), str(width), "3"]}
    image = {"image": {"shape": shape, "dtype": "uint8", "encodingFormat": picture}}
    observation = features(image=image, wrist_image=image, state=tensor("float32", 3))
    step = features(
        observation=observation,
        action=tensor("float32", 2),
        reward=tensor("float32"),
        is_first=tensor("bool"),
        language_instruction={"text": {}},
    )
    steps = {"sequence": {"feature": step, "length": "-1"}}
    (folder / "features.json").write_text(json.dumps(features(steps=steps)))
    shares = [list(part) for part in np.array_split(np.arange(len(recorded)), num_shards)]
    split = {"name": "train", "shardLengths": [str(len(share)) for share in shares]}
    (folder / "dataset_info.json").write_text(json.dumps({"name": "toy", "version": "1.0.0", "splits": [split]}))
    for number, share in enumerate(shares):
        with (folder / f"toy-train.tfrecord-{number:05d}-of-{num_shards:05d}").open("wb") as stream:
            for index in share:
                stream.write(framed(episode(recorded[index], picture)))
    return folder


def episode(one: Recorded, picture: str) -> bytes:
    """One record: every step's values behind each other, column by column."""
    made = example_class()()

    def add(name: str, values: Sequence[Any] | np.ndarray) -> None:
        feature = made.features.feature[f"steps/{name}"]
        if isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif np.asarray(values).dtype.kind == "f":
            feature.float_list.value.extend(np.ravel(values).tolist())
        else:
            feature.int64_list.value.extend(np.ravel(values).tolist())

    length = len(one.actions)
    add("action", one.actions)
    add("observation/state", one.state)
    add("observation/image", [packed(image, picture) for image in one.images["front"]])
    add("observation/wrist_image", [packed(image, picture) for image in one.images["wrist"]])
    add("reward", np.zeros(length, np.float32))
    add("is_first", [1] + [0] * (length - 1))
    add("language_instruction", [one.text.encode()] * length)
    return made.SerializeToString()


def packed(image: np.ndarray, picture: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=picture)
    return buffer.getvalue()


def framed(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(head)) + data + struct.pack("<I", masked_crc(data))
