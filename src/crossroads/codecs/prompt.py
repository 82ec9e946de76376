"""The prompt of pi0.5 and pi0-FAST: the instruction and, in words, the robot's state (arXiv 2504.16054; openpi
``PaligemmaTokenizer.tokenize`` with a state, and ``FASTTokenizer``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from crossroads.codecs.spec import Latent
from crossroads.codecs.text import TextCodec, TextTokens
from crossroads.errors import InputError
from crossroads.space import Normaliser, NormaliserKind
from crossroads.types import NOTHING, Observation, Window

NUM_BINS = 256


@dataclass(frozen=True, kw_only=True)
class PromptTokens(TextTokens):
    """``template`` with the instruction at ``{task}`` and, at ``{state}``, the number of each state's bin.

    A sample without a state (not a number: a question about a picture) has the instruction alone for its prompt.
    """

    num_state: int
    template: str = "Task: {task}, State: {state}"
    separator: str = " "
    normaliser: NormaliserKind = "quantile"
    lower: bool = False
    """The instruction is made lower case (pi0-FAST)."""

    def __post_init__(self) -> None:
        missing = [part for part in ("{task}", "{state}") if part not in self.template]
        if missing or self.answer:
            raise InputError(
                where="PromptTokens",
                expected="a prompt with a place for {task} and one for {state}",
                got="an answer" if self.answer else f"{self.template!r} without {' and '.join(missing)}",
                do="Use TextTokens for what is written, or name both places.",
            )

    def window(self) -> Window:
        return Window(**{**vars(NOTHING), "num_state": self.num_state})

    def prompt(self, task: str, bins: Sequence[int]) -> str:
        """The words of one observation."""
        told = task.strip().lower() if self.lower else task.strip()
        return self.template.format(task=told, state=self.separator.join(map(str, bins)))


class PromptCodec(TextCodec):
    """The module of :class:`PromptTokens`."""

    def __init__(self, spec: PromptTokens, width: int) -> None:
        super().__init__(spec, width)
        self.spec: PromptTokens = spec
        self.normaliser = Normaliser(spec.num_state)

    def observe(self, obs: Observation) -> Latent:
        bins, known = state_bins(self.normaliser.normalise(obs.state)), ~obs.state.isnan().any(dim=1)
        told = zip(obs.text, bins.tolist(), known.tolist(), strict=True)
        prompts = (self.spec.prompt(task, row) if has_state else task.strip() for task, row, has_state in told)
        return self.tokens(tuple(prompts), ends=False)


def state_bins(state: Float[Tensor, "b s"]) -> Int[Tensor, "b s"]:
    """The bin of each number among 256 even ones over -1..1; -1 below them and 255 above, as in openpi."""
    edges = torch.linspace(-1, 1, NUM_BINS + 1, dtype=state.dtype, device=state.device)[:-1]
    return torch.bucketize(state, edges, right=True) - 1
