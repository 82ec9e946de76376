"""Linear maps over few rows, with their weights in memory row by row (as PyTorch makes them) and column by column.

    OMP_NUM_THREADS=1 python benchmarks/linear.py

Acting multiplies few tokens by many weights. A ratio is the median over rounds of the time with rows over the time with
columns, in turns, so above 1 columns are faster; processor time of one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

SHAPES = (
    (192, 64),
    (192, 768),
    (768, 192),
    (384, 1536),
    (1536, 384),
    (512, 2048),
    (2048, 512),
    (768, 3072),
    (1024, 4096),
)
ROWS = (1, 17, 51, 102, 152, 304)


def seconds(call: Callable[[], Tensor], num: int) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    for _ in range(num):
        call()
    return (time.process_time() - start) / num


def ratio(rows: int, width_in: int, width_out: int, rounds: int) -> float:
    """How much faster columns are."""
    x, weight = torch.randn(1, rows, width_in), torch.randn(width_out, width_in)
    turned = weight.t().contiguous().t()
    num = min(400, max(3, int(1e8 / (rows * width_in * width_out))))
    found = []
    for _ in range(rounds):
        by_row = seconds(lambda: functional.linear(x, weight), num)
        found.append(by_row / seconds(lambda: functional.linear(x, turned), num))
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n")
    print(f"| weights | {' | '.join(f'{rows} rows' for rows in ROWS)} |")
    print(f"|---|{'--:|' * len(ROWS)}")
    for width_in, width_out in SHAPES:
        found = (ratio(rows, width_in, width_out, arguments.rounds) for rows in ROWS)
        print(f"| {width_in} to {width_out} | {' | '.join(f'{one:.2f}' for one in found)} |", flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
