"""The robot's state as words of the instruction: each number in one of 256 bins, written as a decimal integer.

pi0-FAST (arXiv 2501.09747) and pi0.5 (arXiv 2504.16054); openpi ``FASTTokenizer`` and ``PaligemmaTokenizer``
(Apache-2.0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.published_text import cleaned
from crossroads.space import NormaliserKind


@dataclass(frozen=True, kw_only=True)
class StateInWords:
    """``template``: the text, with the instruction at ``{task}`` and the numbers, ``separator`` between them, at
    ``{state}``. ``lower``: the instruction is made lower case."""

    num_state: int
    template: str = "Task: {task}, State: {state};\n"
    separator: str = " "
    lower: bool = False
    bins: int = 256
    normaliser: NormaliserKind = "quantile"

    def words(self, task: str, state: Float[Tensor, " s"]) -> str:
        """The text of one instruction and one state of unit scale. Below -1 the number is -1, above 1 it is that of
        the last bin (openpi's ``digitize``)."""
        edges = torch.linspace(-1, 1, self.bins + 1, dtype=torch.float64)[:-1]
        numbers = torch.bucketize(state.double().contiguous(), edges, right=True) - 1
        written = self.separator.join(str(number) for number in numbers.tolist())
        return self.template.format(task=cleaned(task).lower() if self.lower else cleaned(task), state=written)
