"""Our Wan and Cosmos towers beside diffusers' own, in one run: forward, forward and backward, FLOPs, cached denoising.

    OMP_NUM_THREADS=1 python benchmarks/towers.py            # on CPU in float32
    python benchmarks/towers.py --device cuda --compile      # on a GPU in bfloat16

Both networks hold the same weights and are timed in turn, round by round; a ratio is the median over rounds of theirs
over ours, so above 1 ours is faster, with the quartiles beside it. Needs diffusers (``crossroads[backbones]``).
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crossroads.build import build_net
from crossroads.interpreter import Interpreter
from crossroads.net import StreamNet
from crossroads.parity.alone import Alone
from crossroads.recipes.fast_wam import fast_wam
from crossroads.recipes.names import Renamed, cosmos_names, imported, load_weights, wan_ends, wan_names
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.wan import Wan
from crossroads.types import Observation

WORDS = 256
SIZES = {
    "Wan": Wan(
        width=384,
        mlp=1536,
        depth=4,
        heads=6,
        head_dim=64,
        rotary=(24, 20, 20),
        context_width=WORDS,
        modulated_head=True,
    ),
    "Cosmos": Cosmos(
        width=384,
        mlp=1536,
        depth=4,
        heads=6,
        head_dim=64,
        rotary=(24, 20, 20),
        context_width=WORDS,
        modulation_width=64,
        head_eps=1e-5,
    ),
}
PATCH, CHANNELS = 2, 16


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Ours and theirs with the same weights, as functions of a clip, a level per sample and words."""

    alone: Alone
    net: StreamNet
    twin: nn.Module
    ours: Callable[[Tensor, Tensor, Tensor], Tensor]
    theirs: Callable[[Tensor, Tensor, Tensor], Tensor]


def wan_pair(alone: Alone) -> Pair:
    spec = alone.tower
    assert isinstance(spec, Wan)
    twin = diffusers.WanTransformer3DModel(
        patch_size=(1, PATCH, PATCH),
        num_attention_heads=spec.heads,
        attention_head_dim=spec.head_dim,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=WORDS,
        freq_dim=spec.frequency_width,
        ffn_dim=spec.mlp,
        num_layers=spec.depth,
        eps=spec.eps,
        rope_max_seq_len=64,
    )
    names = (
        *wan_ends("codecs.video", "towers.video", "", PATCH, "diffusers"),
        *wan_names("towers.video", "", spec.depth, "diffusers"),
    )

    def theirs(x: Tensor, level: Tensor, words: Tensor) -> Tensor:
        return twin(x, timestep=1000 * level, encoder_hidden_states=words, return_dict=False)[0]

    return _pair(alone, twin, names, theirs)


def cosmos_pair(alone: Alone) -> Pair:
    spec = alone.tower
    assert isinstance(spec, Cosmos)
    twin = diffusers.CosmosTransformer3DModel(
        in_channels=CHANNELS + 2,
        concat_padding_mask=False,  # the channel of zeros comes with the condition, as torchvision would add it
        out_channels=CHANNELS,
        num_attention_heads=spec.heads,
        attention_head_dim=spec.head_dim,
        num_layers=spec.depth,
        mlp_ratio=spec.mlp / spec.width,
        text_embed_dim=WORDS,
        adaln_lora_dim=spec.modulation_width,
        max_size=(64, 64, 64),
        patch_size=(1, PATCH, PATCH),
        rope_scale=spec.stretch,
        extra_pos_embed_type=None,
    )
    names = cosmos_names("codecs.video", "towers.video", "", depth=spec.depth, patch=PATCH, dialect="diffusers")

    def theirs(x: Tensor, level: Tensor, words: Tensor) -> Tensor:
        marks = x.new_zeros(len(x), 2, *x.shape[2:])
        return twin(x, timestep=level, encoder_hidden_states=words, condition_mask=marks, return_dict=False)[0]

    return _pair(alone, twin, tuple(names), theirs)


def _pair(
    alone: Alone, twin: nn.Module, names: tuple[Renamed, ...], theirs: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Pair:
    net = alone.net()
    load_weights(net, imported(names, {name: weight.detach() for name, weight in twin.named_parameters()}))

    def ours(x: Tensor, level: Tensor, words: Tensor) -> Tensor:
        return alone.answer(net, alone.inputs(net, x, level[:, None], words))

    return Pair(alone=alone, net=net, twin=twin, ours=ours, theirs=theirs)


def rounds(calls: dict[str, Callable[[], object]], num: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each call, the calls taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(num + 2):
        for name, call in calls.items():
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if index >= 2:  # two rounds to warm up
                found[name].append(time.perf_counter() - start)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def ratio(theirs: list[float], ours: list[float]) -> str:
    """Median over rounds of theirs over ours, with quartiles."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, ours, strict=True)], n=4)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def compare(name: str, pair: Pair, arguments: argparse.Namespace) -> None:
    device, dtype = torch.device(arguments.device), torch.bfloat16 if arguments.device == "cuda" else torch.float32
    for network in (pair.net, pair.twin):
        network.to(device=device, dtype=dtype)
    x = torch.randn(arguments.batch, CHANNELS, *pair.alone.latents, device=device, dtype=dtype)
    level = torch.rand(arguments.batch, device=device)
    words = torch.randn(arguments.batch, pair.alone.num_words, WORDS, device=device, dtype=dtype)
    calls = {"ours": pair.ours, "theirs": pair.theirs}
    if arguments.compile:
        calls = {side: torch.compile(call) for side, call in calls.items()}
    with torch.no_grad():
        gap = (pair.ours(x, level, words) - pair.theirs(x, level, words)).abs().max().item()
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
        ):  # others count no attention on CPU
            pair.ours(x, level, words)
    share = arguments.batch * pair.alone.flops() / counter.get_total_flops()

    def forward(side: str) -> None:
        with torch.no_grad():
            calls[side](x, level, words)

    def both(side: str) -> None:
        calls[side](x, level, words).float().square().mean().backward()

    for what, run in (("forward", forward), ("forward and backward", both)):
        found = rounds({side: lambda s=side, r=run: r(s) for side in calls}, arguments.rounds, device)
        ms = {side: statistics.median(times) * 1e3 for side, times in found.items()}
        print(
            f"| {name}, {what} | {ms['ours']:.1f} | {ms['theirs']:.1f} | {ratio(found['theirs'], found['ours'])} | "
            f"{gap:.0e} | {share:.4f} |"
        )


def cached_denoising(arguments: argparse.Namespace) -> None:
    """The schedule of nano Fast-WAM with and without keeping what stands still."""
    recipe = fast_wam()
    torch.manual_seed(0)
    net = build_net(recipe.stage).eval().to(arguments.device)
    (rows, columns), window = (64, 64), recipe.window
    obs = Observation(
        images={name: torch.zeros(1, rows, columns, 3, dtype=torch.uint8) for name in window.cameras},
        state=torch.zeros(1, window.num_state),
        text=("push the red cube left",),
        robot=("tabletop",),
        time_s=torch.zeros(1),
    ).to(arguments.device)

    def run(caching: bool) -> None:
        generator = torch.Generator(arguments.device).manual_seed(0)
        with torch.no_grad():
            Interpreter(net, obs, generator, caching=caching).run(recipe.stage.schedule)

    found = rounds({"ours": lambda: run(True), "theirs": lambda: run(False)}, arguments.rounds, torch.device("cpu"))
    ms = {side: statistics.median(times) * 1e3 for side, times in found.items()}
    print(
        f"\nA nano fast_wam chunk of {recipe.stage.schedule[0].steps} steps: {ms['ours']:.1f} ms cached, "  # pyright: ignore[reportAttributeAccessIssue]
        f"{ms['theirs']:.1f} ms uncached, ratio {ratio(found['theirs'], found['ours'])}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--latents", type=int, nargs=3, default=(3, 16, 16), help="frames, rows, columns")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, {arguments.device}, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, batch {arguments.batch}, "
        f"latents {tuple(arguments.latents)}, {arguments.rounds} rounds, {datetime.date.today()}\n"
    )
    print("| what | ours, ms | diffusers, ms | diffusers / ours | greatest gap | FLOPs predicted / counted |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, make in (("Wan", wan_pair), ("Cosmos", cosmos_pair)):
        alone = Alone(tower=SIZES[name], channels=CHANNELS, latents=tuple(arguments.latents), patch=PATCH, num_words=32)
        compare(name, make(alone), arguments)
    cached_denoising(arguments)


if __name__ == "__main__":
    main()
