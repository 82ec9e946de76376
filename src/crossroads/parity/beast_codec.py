"""The BEAST tokeniser as recorded from its published code (Zhou et al. 2025, arXiv 2506.06072; MIT).

A case holds trajectories to fit bounds to, others to encode (the last lies partly outside of them), and the splines
that tokens mean, with and without a given start.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from crossroads.codecs.beast import Beast, BeastTokeniser, knots, spline_basis
from crossroads.codecs.discrete_actions import DiscreteActionCodec, DiscreteActions
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.parity.case import GoldenCase, Tolerance
from crossroads.parity.compare import Produced


def run(case: GoldenCase) -> Produced:
    """Everything that a case records; control points lie dimension by dimension, tokens point by point."""
    made, given = case.meta["constructor"], case.inputs
    made.demand({"init_cond_order": 0, "end_cond_order": 0, "init_pos": True})
    num, spec = made["seq_len"], spec_of(case)
    codec = DiscreteActionCodec(spec, 1)
    beast = codec.tokeniser
    assert isinstance(beast, BeastTokeniser)
    assert isinstance(spec.tokeniser, Beast)
    beast.fit(given["fit_trajectories"])
    points = beast.points(given["trajectories"])
    steps, share = beast.steps(points), beast.scaled(points)
    decoded = beast.points_of(steps)
    rows = beast.encode(given["trajectories"])
    phase, degree = torch.linspace(0, 1, num), spec.tokeniser.degree
    joints, gripper = (knots(spec.tokeniser.num_points, order) for order in (degree, 0))
    outputs = {
        "fit_params": _flat(beast.points(given["fit_trajectories"])),
        "w_min": beast.low.flatten(),
        "w_max": beast.high.flatten(),
        "params": _flat(points),
        "tokens": torch.tensor(rows),
        "continuous_tokens": _flat(2 * share - 1),
        "llm_tokens": torch.tensor([codec.pieces(row)[:-1] for row in rows]),
        "reconstruction": beast.decode(rows, num, made["num_dof"]),
        "decoded_params": _flat(decoded),
        "reconstruction_with_init": beast.curve(decoded, num, given["init_position"]),
        "reconstruction_continuous": beast.curve(beast.unscaled(share), num),
        "basis_joints": spline_basis(phase, joints, degree),
        "basis_gripper": spline_basis(phase, gripper, 0),
        "knots_joints": joints,
        "knots_gripper": gripper,
        "times": torch.linspace(0, made["duration"], num),
    }
    return Produced(outputs=outputs, tolerances={name: _tolerance(case, name) for name in outputs})


def spec_of(case: GoldenCase) -> DiscreteActions:
    """The recorded tokeniser over the vocabulary of its language model."""
    made = case.meta["constructor"]
    return DiscreteActions(
        num_actions=made["seq_len"],
        action_size=made["num_dof"],
        control_hz=(made["seq_len"] - 1) / made["duration"],
        tokeniser=Beast(
            num_points=made["num_basis"],
            degree=made["degree_p"],
            num_steplike=made["gripper_dof"] if made["gripper_zero_order"] else 0,
            size=made["vocab_size"],
            ridge=made["ridge"],
        ),
        vocabulary=PretrainedVocabulary(source="none", size=made["vlm_vocab_size"], start=0, end=0),
        last=made["vlm_vocab_size"] - 1,
        normaliser="none",
    )


def _flat(points: Tensor) -> Tensor:
    return rearrange(points, "b a p -> b (a p)")


def _tolerance(case: GoldenCase, name: str) -> Tolerance:
    advised = case.meta["tolerance"]
    if name in ("tokens", "llm_tokens"):
        return Tolerance(absolute=0.0)
    kinds = {"reconstruction": "reconstruction_abs", "basis": "basis_abs", "knots": "basis_abs", "times": "basis_abs"}
    return Tolerance(absolute=float(advised[kinds.get(name.partition("_")[0], "params_abs")]))
