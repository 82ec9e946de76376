"""The FAST tokeniser as recorded from its published code (Pertsch et al. 2025, arXiv 2501.09747; Apache-2.0).

A case holds fitted byte pairs (``tokenizer.json``), chunks of several shapes with every step of their encoding, and
rows of tokens that mean no chunk.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from crossroads.codecs.fast import Fast, FastTokeniser, cosine_transform
from crossroads.parity.case import GoldenCase, Tolerance
from crossroads.parity.compare import Produced


def run(case: GoldenCase) -> Produced:
    """Everything that a case records of each of its arrays of chunks."""
    tokeniser, advised = tokeniser_of(case), case.meta["tolerance"]
    outputs: dict[str, Tensor] = {}
    for index in range(len(case.meta["test_shapes"])):
        outputs |= _written(case, tokeniser, index)
    kinds = {"dct": "dct_abs", "decoded": "decoded_abs", "malformed_decoded": "decoded_abs"}
    tolerances = {
        name: Tolerance(absolute=float(advised[kinds[kind]]))
        for name in outputs
        if (kind := name.rpartition("_")[0]) in kinds
    }
    return Produced(outputs=outputs, tolerances=tolerances)


def tokeniser_of(case: GoldenCase) -> FastTokeniser:
    """Our tokeniser with the recorded byte pairs."""
    made = case.meta["constructor"]
    size = max(made["vocab_size"], made["actual_vocab_size"])
    tokeniser = FastTokeniser(Fast(size=size, scale=made["scale"]), *case.meta["test_shapes"][0])
    tokeniser.take(json.loads((case.folder / "tokenizer.json").read_text()), made["min_token"])
    return tokeniser


def corpus(case: GoldenCase) -> list[Tensor]:
    """The chunks of the fit, one of each array in turn."""
    arrays = [case.inputs[name] for name in sorted(case.inputs) if name.startswith("train_actions")]
    longest = max(len(array) for array in arrays)
    return [array[row] for row in range(longest) for array in arrays if row < len(array)]


def _written(case: GoldenCase, tokeniser: FastTokeniser, index: int) -> dict[str, Tensor]:
    """One array of chunks to tokens and back; then the first two chunks without their last token, and the first with
    its first token once more at the end."""
    chunks = case.inputs[f"actions_{index}"]
    shape = (chunks.shape[1], chunks.shape[2])
    rows = tokeniser.encode(chunks)
    malformed = [rows[0][:-1], rows[1][:-1], [*rows[0], rows[0][0]]]
    quantised = tokeniser.quantised(chunks)
    found = {
        "dct": cosine_transform(chunks),
        "quantised": quantised,
        "flat": quantised.flatten(1),
        "codepoints": tokeniser.characters(chunks),
        "bpe_ids": _padded(rows),
        "bpe_len": torch.tensor([len(row) for row in rows]),
        "decoded": tokeniser.decode(rows, *shape),
        "malformed_ids": _padded(malformed),
        "malformed_decoded": tokeniser.decode(malformed, *shape),
    }
    return {f"{name}_{index}": value for name, value in found.items()}


def _padded(rows: list[list[int]]) -> Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])
