"""The cost sheet as a page of text: each figure with the formula and the inputs that it rests on."""

from __future__ import annotations

from crossroads.cost.memory import ACTING_FORMULAS, TRAINING_FORMULAS
from crossroads.cost.sheet import CostSheet
from crossroads.cost.show import amount

_LABEL = 34


def sheet_text(sheet: CostSheet) -> str:
    """The whole sheet."""
    on = sheet.on
    total, trained = sheet.parameters.total, sheet.parameters.trained[sheet.phase.name]
    return "\n".join(
        [
            f"{sheet.recipe.name}, size {sheet.size}, phase {sheet.phase.name}: {sheet.recipe.paper}",
            f"on {on.name}: {on.device.peak_flop_per_s / 1e12:g} TFLOP/s dense bfloat16, "
            f"{on.bytes_per_s / 1e12:g} TB/s, {on.memory_bytes / 1e9:g} GB, {on.tdp_w:g} W "
            f"({on.source})",
            "tokens: " + ", ".join(f"{name} {num}" for name, num in sheet.tokens.items()),
            f"length of the text: {sheet.text}",
            "",
            _line("parameters", amount(total), f"{amount(trained)} of them trained in this phase"),
            "",
            *_training(sheet),
            "",
            *_acting(sheet),
            "",
            *_latency(sheet),
        ]
    )


def _line(label: str, value: str, note: str = "") -> str:
    return f"{label:{_LABEL}}{value:>12}   {note}".rstrip()


def _bytes(number: float) -> str:
    return f"{amount(number)}B" if number >= 1000 else f"{number:g} B"


def _training(sheet: CostSheet) -> list[str]:
    name = sheet.phase.name
    sample, cached = sheet.flops.train[name], sheet.flops.train_cached[name]
    lines = [
        "training",
        _line(
            "  FLOPs of one sample",
            amount(sample.total),
            f"{amount(sample.forward)} forward, {amount(sample.backward)} backward; a multiply and an add are two",
        ),
        _line("  from cached features", amount(cached.total), "without what this phase never changes"),
    ]
    found = sheet.recording
    if found is not None:
        note = f"{found.episodes} episodes, {found.frames} frames"
        lines.append(_line("  samples of one epoch", f"{found.samples:,}", note))
    lines += _run(sheet)
    memory, on = sheet.training_memory, sheet.on
    lines.append(f"  memory at batch {memory.batch_size}, all on one device")
    lines += [_line(f"    {part}", _bytes(getattr(memory, part)), words) for part, words in TRAINING_FORMULAS.items()]
    return [*lines, _line("    in all", _bytes(memory.total), _share(memory.total, on.memory_bytes, on.name))]


def _run(sheet: CostSheet) -> list[str]:
    run, on = sheet.training, sheet.on
    if run is None:
        return [_line("  in all", "-", "state --steps or --samples, or give --data")]
    bill = run.bill
    watts = f"hours x {on.tdp_w:g} W x {on.power_share:.0%} (--power-share); the accelerator alone"
    money = "no price stated: give --price-per-hour" if bill.money is None else f"hours x {on.device.price_per_hour:g}"
    return [
        _line("  samples in all", f"{run.samples:,}", f"{run.because}; {run.steps:,} steps"),
        _line("  FLOPs in all", amount(bill.flop), "samples x FLOPs of one"),
        _line(
            f"  {on.name} hours",
            f"{bill.device_hours:,.4g}",
            f"FLOPs / (peak x {on.device.utilisation:.0%}) / 3600 (--utilisation)",
        ),
        _line("  energy", f"{bill.kwh:,.4g} kWh", watts),
        _line("  money", "-" if bill.money is None else f"{bill.money:,.2f}", money),
    ]


def _acting(sheet: CostSheet) -> list[str]:
    memory, window, decode = sheet.acting_memory, sheet.recipe.chunk, sheet.flops.act.decode
    chunk = f"{window.num_actions} actions, {window.chunk_s:g} s" if window.num_actions else "one answer"
    lines = ["acting", _line("  FLOPs of one chunk", amount(sheet.act_flop), chunk)]
    if decode:
        lines.append(_line("  to show what was imagined", amount(decode), "not needed to act"))
    lines.append("  memory at batch 1")
    lines += [_line(f"    {part}", _bytes(getattr(memory, part)), words) for part, words in ACTING_FORMULAS.items()]
    share = _share(memory.total, sheet.on.memory_bytes, sheet.on.name)
    return [*lines, _line("    in all", _bytes(memory.total), share)]


def _latency(sheet: CostSheet) -> list[str]:
    floor = sheet.latency
    head = f"  {'pass':40}{'count':>6}{'FLOPs each':>12}{'bytes each':>12}{'compute':>11}{'bandwidth':>11}"
    lines = ["latency floor of one chunk, batch 1, bfloat16, at the device's peak rates", head]
    for one in floor.passes:
        read = _bytes(one.weight_bytes + one.cache_bytes) if one.weight_bytes else "-"
        times = f"{_ms(one.compute_s):>11}{_ms(one.bandwidth_s):>11}"
        lines.append(f"  {one.what:40}{one.count:6}{amount(one.flop):>12}{read:>12}{times}   {one.bound}")
    sums = f"{_ms(floor.compute_s):>11}{_ms(floor.bandwidth_s):>11}"
    lines.append(f"  {'sums':40}{'':6}{'':12}{_bytes(floor.weight_bytes):>12}{sums}   (bytes: weights alone)")
    lines.append(f"  floor: {_ms(floor.floor_s)}, the larger of the two of each pass, added up")
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms"


def _share(total: int, capacity: float, name: str) -> str:
    if total > capacity:
        return f"{total / capacity:.2g} times what one {name} has: shard it, or lower the batch"
    return f"{total / capacity:.0%} of one {name}"
