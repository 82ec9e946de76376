"""Measure the scripted experts of the tabletop and print a table in markdown.

python benchmarks/tabletop_experts.py --episodes 200 --seed 0
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics

from crossroads.evaluate.statistics import wilson
from crossroads.sim.rendering import mujoco
from crossroads.sim.tabletop.expert import CALM, Style
from crossroads.sim.tabletop.measure import expert_table
from crossroads.sim.tabletop.tasks import ALL_FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=200, help="episodes per family")
    parser.add_argument("--seed", type=int, default=0, help="first scene seed")
    parser.add_argument("--human", action="store_true", help="with pauses, detours and 3 mm of motion noise")
    parser.add_argument("--families", nargs="*", default=ALL_FAMILIES)
    arguments = parser.parse_args()
    style = Style(pauses=True, detours=True, noise_m=0.003) if arguments.human else CALM
    print(f"MuJoCo {mujoco.__version__}, Python {platform.python_version()}, {datetime.date.today()}, style {style}\n")
    print("| family | success | 95 % interval | median steps | longest | instructions per scene | failed seeds |")
    print("|---|---|---|---|---|---|---|")
    for row in expert_table(
        num_episodes=arguments.episodes, first_seed=arguments.seed, families=tuple(arguments.families), style=style
    ):
        interval = wilson(row.num_success, row.num_episodes)
        print(
            f"| {row.family} | {row.num_success}/{row.num_episodes} | {interval.low:.3f} to {interval.high:.3f} "
            f"| {statistics.median(row.steps):.0f} | {max(row.steps)} | {row.num_tasks:.1f} "
            f"| {', '.join(map(str, row.failed_seeds[:5])) or '-'} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
