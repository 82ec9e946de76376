"""Being-H0.5's packed sequence (``create_sparse_mask``, ``pack_sequence``; BeingBeyond/Being-H, Apache-2.0) in groups:
documents, splits of them, and in those the runs of tokens of one kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import torch

from crossroads.parity.case import GoldenCase
from crossroads.streams import Edge

INDEXES = {"text": "text_indexes", "image": "vit_indexes", "state": "state_indexes", "action": "action_indexes"}
"""Where the tokens of each kind stand in the packed sequence."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Adjacent tokens of one kind in one document and one split: from ``start`` to ``stop`` in the packed sequence, the
    first of them being number ``first`` of its kind. ``full``: whether the split's tokens all see each other."""

    kind: str
    name: str
    start: int
    stop: int
    first: int
    document: int
    split: int
    full: bool

    @property
    def own(self) -> slice:
        """Which tokens of its kind these are."""
        return slice(self.first, self.first + self.stop - self.start)


def pieces_of(case: GoldenCase, documents: Sequence[int], splits: Iterable[tuple[int, str]]) -> tuple[Piece, ...]:
    """The runs of tokens in the first documents, of the given lengths; ``splits``: length and mode of each."""
    length, counts = sum(documents), dict.fromkeys(INDEXES, 0)
    kinds: list[str | None] = [None] * length
    for kind, indexes in INDEXES.items():
        for index in case.inputs.get(indexes, torch.zeros(0)).long().tolist():
            if index < length:
                kinds[index] = kind
    document = [number for number, num in enumerate(documents) for _ in range(num)]
    cut = [(number, mode == "full") for number, (num, mode) in enumerate(splits) for _ in range(num)]
    cut = cut[:length] + [(-1, False)] * (length - len(cut))
    found: list[Piece] = []
    for (kind, own, (split, full)), group in groupby(range(length), lambda at: (kinds[at], document[at], cut[at])):
        places = list(group)
        if kind is None:
            continue
        name = kind if not counts[kind] else f"{kind}_{places[0]}"
        piece = Piece(
            kind=kind,
            name=name,
            start=places[0],
            stop=places[-1] + 1,
            first=counts[kind],
            document=own,
            split=split,
            full=full,
        )
        counts[kind] += len(places)
        found.append(piece)
    return tuple(found)


def edges_of(pieces: Sequence[Piece]) -> tuple[Edge, ...]:
    """A token reads what stands before it in its document, and all of its split where that is full."""
    edges = []
    for dst in pieces:
        for src in pieces:
            together = dst.full and (dst.document, dst.split) == (src.document, src.split)
            if dst.name == src.name:
                edges.append(Edge(dst=dst.name, src=src.name, when="all" if together else "causal"))
            elif dst.document == src.document and (src.start < dst.start or together):
                edges.append(Edge(dst=dst.name, src=src.name))
    return tuple(edges)


def flat(values: Any) -> list[Any]:
    """What is recorded document by document, or in one row."""
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def splits_of(case: GoldenCase) -> list[tuple[int, str]]:
    """Length and mode of each split of the training step (``BeingH.forward``; modes as ``pack_sequence`` has them
    where the case does not say them)."""
    meta, made, mode = case.meta, case.meta["constructor"], str(case.meta["constructor"]["attn_mode"])
    documents, lengths = flat(meta["sample_lens"]), flat(meta["split_lens"])
    told = meta.get("attn_modes", made.get("attn_modes"))
    modes = _modes(case, lengths, mode) if told is None else flat(told)
    return list(zip(documents if mode == "causal" else lengths, modes, strict=False))


def _modes(case: GoldenCase, lengths: Sequence[int], mode: str) -> list[str]:
    """Splits with actions are full where ``attn_mode`` names them or all; splits of one picture between its marks
    unless it says that they are causal."""
    starts = torch.tensor([0, *lengths]).cumsum(0).tolist()
    given, found = case.inputs, []
    for start, stop in pairwise(starts):
        num = {
            kind: int(((given[name] >= start) & (given[name] < stop)).sum()) if name in given else 0
            for kind, name in INDEXES.items()
        }
        acts = num["action"] and ("actionfull" in mode or mode == "full")
        shows = num["image"] and not num["action"] and num["text"] <= 2 and "causal" not in mode
        found.append("full" if acts or shows else "causal")
    return found
