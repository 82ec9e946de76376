"""Hold a recipe against recordings of the published code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Run a golden case and print every output's largest error against its tolerance; status 1 beyond it."""

    case: Positional[Path]
    """The folder of one case: meta.json and the recorded weights, inputs and outputs."""

    def run(self) -> int:
        from crossroads.parity.case import load_case
        from crossroads.parity.compare import compare, table
        from crossroads.parity.systems import run

        case = load_case(self.case)
        rows = compare(case, run(case))
        print(f"{case.system}, {self.case}\n\n{table(rows)}")
        return 0 if all(row.ok for row in rows) else 1
