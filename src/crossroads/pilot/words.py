"""Numbers as a person writes them: shares, points, intervals, durations, large counts."""

from __future__ import annotations

import math

from crossroads.evaluate.statistics import Interval


def percent(share: float) -> str:
    """0.643 as '64 %'."""
    return f"{100 * share:.0f} %"


def points(difference: float, digits: int = 0) -> str:
    """A signed difference of shares in percentage points."""
    rounded = round(100 * difference, digits)
    return signed(rounded, digits) if rounded else "0"


def percents(interval: Interval) -> str:
    """An interval of shares, '[51, 75]'."""
    return f"[{round(100 * interval.low)}, {round(100 * interval.high)}]".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """Two digits; tiny values as a bound."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def count(number: float) -> str:
    """4912384 as '4.91 M'."""
    number = float(f"{number:.3g}")  # 999,999 is 1 M, not 1000 k
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def flops(number: float) -> str:
    """Floating-point operations with the prefix that leaves one to three digits."""
    if number <= 0:
        return "0"
    number = float(f"{number:.3g}")
    power = max(0, min(21, 3 * math.floor(math.log10(number) / 3)))
    letter = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E", 21: "Z"}[power]
    return f"{number / 10**power:.3g} {letter}FLOP"


def decimal(number: float, digits: int = 2) -> str:
    """A number with a true minus sign."""
    return f"{number:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(number: float, digits: int = 2) -> str:
    """The same, with its sign in front."""
    return f"{number:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def plural(number: int, what: str) -> str:
    """'1 training run', '1,800 episodes'."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def lower_first(sentence: str) -> str:
    """A sentence that continues another one."""
    return sentence[:1].lower() + sentence[1:]


def seconds(time_s: float) -> str:
    """A duration in the unit a person would use."""
    time_s = float(f"{time_s:.3g}") if time_s < 60 else float(round(time_s))  # 59.99 s is 1 min, not 60 s
    if time_s < 1:
        return f"{1000 * time_s:.3g} ms"
    if time_s < 60:
        return f"{time_s:.3g} s"
    if time_s < 3600:
        return f"{int(time_s // 60)} min {time_s % 60:.0f} s"
    return f"{int(time_s // 3600)} h {time_s % 3600 / 60:.0f} min"
