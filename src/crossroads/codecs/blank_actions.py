"""Action chunks that are answered from nothing, and those that are shown to whoever reads a plan of them.

DETR's queries (Carion et al. 2020, arXiv 2005.12872) enter a decoder as zeros; where they stand is a weight of the
tower. ACT (arXiv 2304.13705) answers a chunk so, and shows its style encoder the demonstrated one.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.banks import end_flops, end_parameters
from crossroads.streams import ViewKind


@dataclass(frozen=True, kw_only=True)
class BlankActions(ActionTokens):
    """A chunk whose tokens enter as zeros: there is no way in, only the way out."""

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("noised",)

    def num_parameters(self, width: int) -> int:
        return end_parameters(self.action_size, width, self.way_out, len(self.robots), back=True)

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return 0


class BlankActionCodec(ActionCodec):
    """The module of :class:`BlankActions`."""

    def __init__(self, spec: BlankActions, width: int) -> None:
        super().__init__(spec, width)
        del self.enter

    def embed(self, latent: Float[Tensor, "b n a"], level: Tensor) -> Float[Tensor, "b n w"]:
        return latent.new_zeros(*latent.shape[:2], self.width)


@dataclass(frozen=True, kw_only=True)
class SeenActions(ActionTokens):
    """A demonstrated chunk as it is read when a plan is learned; there is no way out."""

    @property
    def views(self) -> tuple[ViewKind, ...]:
        return ("posterior",)

    def num_parameters(self, width: int) -> int:
        return end_parameters(self.action_size, width, self.hidden, len(self.robots))

    def embed_flops(self, view: ViewKind, width: int) -> int:
        return end_flops(self.num_actions, self.action_size, width, self.hidden)

    def read_flops(self, view: ViewKind, width: int) -> int:
        return 0


class SeenActionCodec(ActionCodec):
    """The module of :class:`SeenActions`."""

    def __init__(self, spec: SeenActions, width: int) -> None:
        super().__init__(spec, width)
        del self.leave
