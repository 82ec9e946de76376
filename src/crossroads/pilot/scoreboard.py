"""An evaluation as the text that ``crossroads eval`` prints."""

from __future__ import annotations

from crossroads.pilot.arena import Evaluation, Measured


def summary(found: Evaluation) -> str:
    """The evaluation as tables: shares with Wilson intervals, families, latencies, and pairs with the first arm."""
    last = found.first_scene + found.num_scenes - 1
    lines = [f"{found.env}, scenes {found.first_scene} to {last}: {found.ended}.", ""]
    wide = max(len(arm.name) for arm in found.arms) + 2
    columns = ["success", "instructed", "wrong object", "swap score"]
    lines.append(" " * wide + "".join(name.rjust(26) for name in columns) + "   letter" * (len(found.arms) > 1))
    for arm in found.arms:
        for name, part in {arm.name: arm.overall, **{f"  {name}": part for name, part in arm.families.items()}}.items():
            rates = [part.success, part.instructed_success, part.wrong_object, part.swap_score]
            cells = [
                f"{r.share:.2f} [{r.interval.low:.2f}, {r.interval.high:.2f}] n={r.trials}" if r else "-" for r in rates
            ]
            letter = f"   {arm.letter}" if arm.letter and name == arm.name else ""
            lines.append(name.ljust(wide) + "".join(cell.rjust(26) for cell in cells) + letter)
    lines += ["", *(_latency_line(arm, wide) for arm in found.arms)]
    if found.pairs:
        lines += ["", *_pair_lines(found, wide)]
    return "\n".join(lines)


def _latency_line(arm: Measured, wide: int) -> str:
    latency = arm.latency
    said = f"{arm.name.ljust(wide)}chunk {1e3 * latency.median_s:.1f} ms, p95 {1e3 * latency.p95_s:.1f} ms"
    said += f" ({arm.latency_is})"
    if arm.server_median_s is not None:
        said += f"; the server says {1e3 * arm.server_median_s:.1f} ms"
    if arm.clipped_share:
        said += f"; {100 * arm.clipped_share:.1f} % of its numbers lay outside the robot's limits"
    if arm.num_reconnects:
        said += f"; reconnected {arm.num_reconnects} times"
    if arm.memory:
        said += f"; {arm.memory}"
    return said


def _pair_lines(found: Evaluation, wide: int) -> list[str]:
    stopping = found.settings.stopping
    if stopping:
        how = f"anytime-valid test and intervals, {100 * stopping.alpha:g} % over all pairs"
    else:
        how = "exact McNemar test, 95 % intervals"
    lines = [f"against {found.pairs[0].first} ({how}; p corrected by Holm):"]
    for pair in found.pairs:
        counts, interval = pair.counts, pair.interval
        lines.append(
            f"{pair.arm.ljust(wide)}{counts.difference:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}], "
            f"only it {counts.only_a}, only the first {counts.only_b}, p = {pair.p_adjusted:.3g}: {pair.answer}"
        )
    return lines
