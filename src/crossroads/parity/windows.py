"""A recorded window of observed steps: our network with its weights, entered behind the frozen encoders.

GR-1 and Seer record one pass over a window whose tokens lie step by step; ours lie group by group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.layout import Layout
from crossroads.net import StreamNet
from crossroads.parity.recorded import by_group, hearing, joint_of, mask_between
from crossroads.towers.group import GroupInput


@dataclass(frozen=True, kw_only=True)
class RecordedWindow:
    """``tokens`` of each group, those of each step in turn; ``present``: the steps that are there (true) or padded.

    ``groups``: the groups in the order of a step's tokens.
    """

    net: StreamNet
    tokens: Mapping[str, Float[Tensor, "b n w"]]
    present: Bool[Tensor, "b t"]
    groups: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, GroupInput]:
        valid = {n: self.present.repeat_interleave(self.per_step(n), dim=1) for n in self.groups}
        level = torch.zeros(len(self.present), 1)
        return {
            name: GroupInput(
                tokens=tokens, level=level, valid=valid[name], places=self.net.place(name, tokens.shape[1], valid)
            )
            for name, tokens in self.tokens.items()
        }

    def per_step(self, name: str) -> int:
        return self.tokens[name].shape[1] // self.present.shape[1]

    def by_step(self, parts: Mapping[str, Float[Tensor, "b n w"]]) -> Float[Tensor, "b m w"]:
        """Tokens of all groups as they lie in the recording."""
        steps = [rearrange(parts[name], "b (t n) w -> b t n w", t=self.present.shape[1]) for name in self.groups]
        return rearrange(torch.cat(steps, dim=2), "b t n w -> b (t n) w")

    def mask(self) -> Bool[Tensor, "m m"]:
        """Who reads whom where every step is present, in the recording's order."""
        per_step = {name: self.per_step(name) for name in self.groups}
        return stepwise_mask(self.net.layout, per_step, self.present.shape[1])

    def visible(self) -> Bool[Tensor, "b m m"]:
        """The same without what is padded."""
        each = sum(self.per_step(name) for name in self.groups)
        return self.mask() & self.present.repeat_interleave(each, dim=1)[:, None]

    @torch.no_grad()
    def run(self, tower: str = "policy") -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Final states by group; all tokens as they enter the tower's layers; all final states."""
        inputs = self.inputs
        norm = joint_of(self.net, tower).get_submodule(f"frames.{tower}.norm_in")
        with hearing(norm) as heard:
            states = {name: state.hidden for name, state in self.net(inputs, {}).items()}
        return states, self.by_step(by_group(self.net, inputs, tower, heard[0])), self.by_step(states)


def stepwise_mask(layout: Layout, per_step: Mapping[str, int], num_steps: int) -> Bool[Tensor, "m m"]:
    """Who reads whom, step by step and within each the groups of ``per_step`` in their order."""
    order = [
        (name, step * num + number)
        for step in range(num_steps)
        for name, num in per_step.items()
        for number in range(num)
    ]
    return mask_between(layout, {name: num * num_steps for name, num in per_step.items()}, order)
