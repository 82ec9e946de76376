"""What a language model can still say after it learned to act: held-out questions about pictures, before and after.

Forgetting is how vision-language-action models fail (knowledge insulation, arXiv 2505.23705; VLM2VLA, arXiv
2509.22195). Every policy that stands on a shipped language model is asked in the same way: its present weights are put
back into the recipe of the language model, and that one answers, whatever the policy itself writes before it acts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from crossroads.backbones.load import put, weights_on
from crossroads.backbones.questions import is_right, places
from crossroads.build import build
from crossroads.data.language import QuestionBatches
from crossroads.errors import InputError
from crossroads.policy import StreamPolicy
from crossroads.recipes.nano_vlm import nano_vlm


@dataclass(frozen=True, kw_only=True)
class Graded:
    """Which of some questions were answered rightly."""

    kinds: tuple[str, ...]
    """Of each question, by the form of its true answer: ``place``, ``yes or no``, ``words``."""
    right: tuple[bool, ...]

    @property
    def share(self) -> float:
        return float(np.mean(self.right))

    def of_kind(self, kind: str) -> tuple[bool, ...]:
        return tuple(right for each, right in zip(self.kinds, self.right, strict=True) if each == kind)


def language_of(policy: StreamPolicy) -> StreamPolicy:
    """The language model that a policy stands on, with the weights that the policy has now.

    Raises:
        InputError: no tower of the policy starts from the shipped language model, or its words or pictures go another
            way.
    """
    said = nano_vlm()
    model = build(said, policy.space, seed=0)
    have, towers = weights_on(policy, said.name), [tower.name for tower in said.stage.towers]
    where = f"the trained policy {policy.recipe.name!r}"
    if lost := sorted(set(model.net.weight_names(towers)) - set(have)):
        raise InputError(
            where=where,
            expected="the whole language model: pictures, words and tower",
            got=f"none of {lost[0]!r}",
            do="Ask a policy that gives its language model both pictures and words.",
        )
    put(model, where, have, towers)
    return model


@torch.no_grad()
def graded(model: StreamPolicy, questions: QuestionBatches, num: int, *, batch_size: int = 50) -> Graded:
    """Answers to ``num`` questions (all, if there are fewer), evenly spread over the data set. Questions that have many
    right answers (what is where) are left out."""
    one = [number for number, (_, each) in enumerate(questions.questions) if len(places(each.answer)) < 2]
    chosen = np.array(one)[np.unique(np.linspace(0, len(one) - 1, min(num, len(one))).astype(int))]
    kinds: list[str] = []
    right: list[bool] = []
    for start in range(0, len(chosen), batch_size):
        asked = questions.asked(chosen[start : start + batch_size])
        given = model.answer(asked.obs, generator=torch.Generator().manual_seed(0))
        kinds += [kind_of(answer) for answer in asked.answer]
        right += [is_right(told, answer) for told, answer in zip(given, asked.answer, strict=True)]
    return Graded(kinds=tuple(kinds), right=tuple(right))


def kind_of(answer: str) -> str:
    """The form of a true answer."""
    if places(answer):
        return "place"
    return "yes or no" if answer in ("yes", "no") else "words"
