"""Our pi0 and SmolVLA beside LeRobot's own, in one run: a chunk of actions, a training step, memory.

    OMP_NUM_THREADS=1 python benchmarks/vla.py --lerobot PYTHON_OF_LEROBOT_0.6.1

LeRobot runs in its own environment, as a process that times itself; the two take turns, round by round. Its policy is
made and saved there and imported here, so both hold the same weights; both get the same pictures, tokens, state and
noise, in memory. A ratio is the median over rounds of theirs over ours, so above 1 ours is faster, with the quartiles
beside it. Times are processor time of one thread, which other work on the machine does not lengthen as it does wall
time; both are kept in the JSON. The peak is how much resident memory grows at most during one chunk (Linux).
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from crossroads.noise import velocity
from crossroads.parity import pi0, smolvla
from crossroads.parity.case import Named, load_case
from crossroads.recipes.pi0 import Pi0Size
from crossroads.recipes.pi0 import pi0 as pi0_recipe
from crossroads.recipes.smolvla import smolvla as smolvla_recipe
from crossroads.recipes.smolvla_names import smolvla_names
from crossroads.recipes.transfer import import_release, official

PEER = Path(__file__).parent.parent / "tests" / "recipes" / "lerobot_policies.py"
HEAD = """| what | ours, ms | LeRobot, ms | LeRobot / ours | peak, MiB | LeRobot's peak, MiB | greatest gap |
|---|--:|--:|--:|--:|--:|--:|"""
OUT = Path("results/vla-family/speed.json")


def pi0_made(width: int, depth: int, head_dim: int, pixels: int) -> dict[str, Any]:
    """pi0 with an expert half as wide as its language model (published: 2048 and 1024, 18 layers, 8 heads of 256)."""
    gemma = {"depth": depth, "width": width, "mlp_dim": 4 * width, "num_heads": 8, "num_kv_heads": 1}
    gemma["head_dim"] = head_dim
    vision = {"hidden_size": width // 2, "intermediate_size": 2 * width, "num_hidden_layers": depth // 2}
    vision |= {"num_attention_heads": 4, "patch_size": 14, "image_size": pixels, "projection_dim": width}
    return {
        **{"pi05": False, "action_dim": 32, "action_horizon": 50, "vocab_size": 512, "rms_norm_eps": 1e-6},
        **{"rope_theta": 10000.0, "vlm_gemma": gemma, "siglip": vision},
        "action_expert_gemma": {**gemma, "width": width // 2, "mlp_dim": 2 * width},
    }


def smolvla_made(width: int, depth: int, head_dim: int, pixels: int) -> dict[str, Any]:
    """SmolVLA with an expert of three quarters of the width (published: 960, 16 layers, 15 and 5 heads of 64)."""
    text = {"hidden_size": width, "intermediate_size": 8 * width // 3, "num_hidden_layers": depth}
    text |= {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": head_dim, "vocab_size": 512}
    text |= {"rms_norm_eps": 1e-5, "rope_max_wavelength": 10000}
    vision = {"hidden_size": width // 2, "intermediate_size": 2 * width, "num_hidden_layers": depth // 2}
    vision |= {"num_attention_heads": 4, "image_size": pixels, "patch_size": 16}
    expert = 3 * width // 4
    made = {"num_vlm_layers": depth, "num_expert_layers": depth, "attention_mode": "cross_attn"}
    made |= {"self_attn_every_n_layers": 2, "expert_width_multiplier": 0.75, "expert_hidden_size": expert}
    made |= {"expert_intermediate_size": 256 * -(-int(4 * int(2 * expert / 3)) // 256), "prefix_length": -1}
    made |= {"chunk_size": 50, "max_state_dim": 32, "max_action_dim": 32, "num_steps": 10}
    return {**made, "connector_scale_factor": 4, "text_config": text, "vision_config": vision}


SIZES: Mapping[tuple[str, str], dict[str, Any]] = {
    ("pi0", "tiny"): pi0_made(width=64, depth=4, head_dim=16, pixels=56),
    ("pi0", "small"): pi0_made(width=384, depth=8, head_dim=64, pixels=112),
    ("smolvla", "tiny"): smolvla_made(width=96, depth=4, head_dim=16, pixels=128),
    ("smolvla", "small"): smolvla_made(width=384, depth=8, head_dim=64, pixels=256),
}


class Peer:
    """LeRobot's side: a process that makes the policy, and then times what it is asked to."""

    def __init__(self, python: str, spec: Path, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(torch.get_num_threads())}
        words = [python, str(PEER), "serve", str(spec), str(folder)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.parameters = self._answer()

    def __call__(self, what: str, how: int | str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {how}\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line.partition(" ")[2])
        sys.exit(
            f"LeRobot's process ended with status {self.process.wait()}; run {PEER.name} serve by hand to see why."
        )

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass(frozen=True, kw_only=True)
class Ours:
    """Our side of the same policy."""

    chunk: Callable[[], torch.Tensor]
    step: Callable[[], None]
    gap: float
    parameters: int

    @classmethod
    def of(cls, folder: Path) -> Ours:
        case = load_case(folder / "case")
        weights = {name.removeprefix("model."): x for name, x in load_file(folder / "state.safetensors").items()}
        case = replace(case, weights=Named(weights, str(folder)))
        if case.system == "pi0":
            size = pi0.size_of(case)
            assert isinstance(size, Pi0Size)
            given = replace(official("pi0"), recipe=pi0_recipe(size), names=pi0.names_of(size))
            prepared = pi0.prepare(case)
        else:
            small = smolvla.size_of(case)
            given = replace(official("smolvla"), recipe=smolvla_recipe(small), names=smolvla_names(small))
            prepared = smolvla.prepare(case)
        net = import_release(given, str(folder / "release"), folder / "ours", dtype=torch.float32)
        prepared, acting = replace(prepared, net=net.eval()), copy.deepcopy(net.eval())
        acting.turn_weights()
        acted = replace(prepared, net=acting)
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-5)
        target = velocity(case.inputs["actions"], case.inputs["noise"])

        def chunk() -> torch.Tensor:
            return acted.sample(acted.stage.schedule)

        def step() -> None:
            optimiser.zero_grad()
            answer = net.codec("action").read(net(prepared.inputs(prepared.order), {})["action"].hidden)
            ((answer - target) ** 2).mean().backward()
            optimiser.step()

        gap = (chunk() - case.outputs["sample_actions"]).abs().max().item()
        num = sum(parameter.numel() for parameter in net.parameters())
        return cls(chunk=chunk, step=step, gap=gap, parameters=num)


def timed(call: Callable[[], object], num: int) -> list[tuple[float, float]]:
    """Wall and processor seconds of some calls."""
    found = []
    for _ in range(num):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return found


def grown(call: Callable[[], object]) -> int:
    """Bytes by which the resident memory of this process grows at most while it calls, looked at every millisecond."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what calls before left in the allocator goes back
    before = peak = resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(peak, resident()) - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def compare(system: str, size: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One policy at one size: a row per thing that is timed, and one of memory."""
    spec = {"system": system, "constructor": SIZES[system, size], "seed": 0, "batch": arguments.batch, "steps": 10}
    spec |= {"num_cameras": 2, "num_tokens": 24, "masked": False, "tied_weights": [], "notes": []}
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec))
    peer = Peer(arguments.lerobot, folder / "spec.json", folder)
    ours = Ours.of(folder)
    rows = []
    for what, call in (("chunk", ours.chunk), ("step", ours.step)):
        both: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
        for number in range(arguments.rounds + 2):
            pair = timed(call, 1), [tuple(one) for one in peer(what, 1)]
            if number >= 2:  # two rounds to warm up
                both["ours"] += pair[0]
                both["theirs"] += pair[1]
        rows.append({"system": system, "size": size, "what": what, "gap": ours.gap, **summary(both)})
        if what == "chunk":  # before training adds its own
            rows[-1] |= {"ours_bytes": grown(call), "theirs_bytes": peer(what, "memory")}
    peer.close()
    return [{**row, "parameters": ours.parameters} for row in rows]


def summary(both: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians, and the quartiles of theirs over ours, by processor and by wall time."""
    found: dict[str, Any] = {}
    for index, clock in enumerate(("wall", "processor")):
        ours, theirs = ([one[index] for one in both[side]] for side in ("ours", "theirs"))
        found[clock] = {
            "ours_s": statistics.median(ours),
            "theirs_s": statistics.median(theirs),
            "ratio": statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4),
        }
    return found


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    clock = row["processor"]
    low, middle, high = clock["ratio"]
    memory = (
        "| | " if "ours_bytes" not in row else f"| {row['ours_bytes'] / 2**20:.0f} | {row['theirs_bytes'] / 2**20:.0f} "
    )
    name = f"{row['system']}, {row['size']} ({row['parameters'] / 1e6:.1f}M), {row['what']}"
    times = f"{clock['ours_s'] * 1e3:.1f} | {clock['theirs_s'] * 1e3:.1f} | {middle:.2f} [{low:.2f}, {high:.2f}]"
    return f"| {name} | {times} {memory}| {row['gap']:.0e} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    first = os.environ.get("CROSSROADS_LEROBOT_PYTHON", "").split(":")[0]
    parser.add_argument("--lerobot", default=first, required=not first, help="the interpreter that has LeRobot")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", default=("tiny", "small"), choices=("tiny", "small"))
    parser.add_argument("--systems", nargs="+", default=("pi0", "smolvla"), choices=("pi0", "smolvla"))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    smolvla.recorded_places = lambda rows, columns: torch.arange(rows * columns)  # as in transformers since 5
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for system in arguments.systems:
            for size in arguments.sizes:
                found = compare(system, size, arguments, Path(folder) / f"{system}_{size}")
                if not rows:
                    about = told(Path(folder) / f"{system}_{size}" / "case" / "meta.json", arguments)
                    print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
                    print(HEAD)
                rows += found
                print("\n".join(line(row) for row in found), flush=True)
                arguments.out.write_text(json.dumps({"about": about, "rows": rows}, indent=1))


def told(meta: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """What was compared with what, on which machine, and when."""
    upstream = json.loads(meta.read_text())["upstream"]
    return {
        **{f"theirs_{name}": version for name, version in upstream.items()},
        **{"torch": torch.__version__, "machine": platform.machine(), "threads": torch.get_num_threads()},
        **{"load": os.getloadavg()[0], "rounds": arguments.rounds, "batch": arguments.batch},
        "date": str(datetime.date.today()),
    }


if __name__ == "__main__":
    main()
