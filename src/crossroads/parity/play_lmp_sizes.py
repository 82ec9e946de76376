"""Sizes and switches of recorded Play-LMP cases: what published constructors were given, as sizes of our recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from crossroads.codecs.banks import ACTIVATIONS
from crossroads.codecs.keypoints import PictureNetwork
from crossroads.codecs.percepts import Percepts
from crossroads.codecs.sentence import PooledSentences
from crossroads.codecs.steps import Steps
from crossroads.codecs.told_actions import ToldActions
from crossroads.errors import InputError, nearest
from crossroads.mixtures import Logistics
from crossroads.parity.case import GoldenCase, Named
from crossroads.plans import Categories, Gaussian
from crossroads.recipes.play_lmp_sizes import NANO, PlaySize, Widths, told_once, towers_of
from crossroads.towers.playing import BENDS, AttentiveRecognition, Bend, RecurrentRecognition
from crossroads.towers.recurrent import Cell

FLOOR = 1e-4
"""HULC's smallest deviation, which is no argument of its networks."""
CELLS: Mapping[str, Cell | None] = {
    "rnn_decoder": "relu",
    "gru_decoder": "gru",
    "lstm_decoder": "lstm",
    "mlp_decoder": None,
}
"""Of decoders."""
READERS: Mapping[str, Cell] = {"nn.RNN": "tanh", "nn.GRU": "gru", "nn.LSTM": "lstm"}
"""Of HULC's recurrent posterior."""


def size_of(case: GoldenCase, made: Named[Any]) -> PlaySize:
    """Sizes and switches of a case; widths that its constructors fix are read off its weights."""
    proposal = made["PlanProposalNetwork"]
    decoder = made[nearest_key(made, "LogisticDecoderRNN", "LogisticPolicyNetwork")]
    decoder.demand({"load_action_bounds": False})
    steps = Steps(num=case.inputs["percep_emb"].shape[1], apart_s=1.0, ahead=0)
    seen = Percepts(cameras=(), image_hw=(0, 0), networks=(), num_state=proposal["perceptual_features"], steps=steps)
    law = Logistics(
        num=decoder["n_mixtures"],
        bins=decoder["num_classes"],
        least=decoder["log_scale_min"],
        binary=int(bool(decoder.get("discrete_gripper", False))),
        binary_weight=decoder.get("gripper_alpha", 1.0),
        low=tuple(decoder["act_min_bound"]),
        high=tuple(decoder["act_max_bound"]),
    )
    family = family_of(case, made)
    hidden = {
        name: len(case.weights[f"{name}.mlp.{at}.bias"]) for name, at in (("visual_goal", 0), ("language_goal", 1))
    }
    widths = Widths(
        goal=proposal["latent_goal_features"],
        goal_hidden=hidden["language_goal"],
        proposal=len(case.weights["plan_proposal.fc_model.0.bias"]),
        decoder=decoder["hidden_size"],
    )
    normed = "visual_goal.ln.weight" in case.weights
    goal, proposing, acting = towers_of(widths, seen=seen, plan=family.size, norm=normed)
    goals = [made["VisualGoalEncoder"], made["LanguageGoalEncoder"]]
    first, last = decoder.get("perceptual_emb_slice") or (0, 0)
    return replace(
        NANO,
        seen=seen,
        words=told_once(PooledSentences(source="recorded", width=case.inputs["lang"].shape[1]), steps),
        family=family,
        action=ToldActions(
            num_actions=1, action_size=decoder["out_features"], control_hz=1.0, steps=steps, law=law, normaliser="none"
        ),
        goal=replace(
            goal,
            bend=bend_of(*goals),
            unit=alike("l2_normalize_goal_embeddings", *goals),
            picture_hidden=hidden["visual_goal"],
        ),
        proposal=replace(proposing, bend=bend_of(proposal)),
        recognition=recognition_of(case, made, seen),
        decoder=replace(
            acting,
            first=first,
            last=last,
            depth=decoder.get("num_layers", 2),
            cell=CELLS[nearest_key(CELLS, decoder.get("rnn_model", "rnn_decoder"))],
        ),
        kl_weight=case.meta["kl_beta"],
        kl_balance=case.meta.get("kl_balancing_mix"),
    )


def family_of(case: GoldenCase, made: Named[Any]) -> Gaussian | Categories:
    """How a plan is told."""
    kind = made.get("dist") or {}
    if kind and kind["dist"] == "discrete":
        return Categories(num=kind["category_size"], classes=kind["class_size"])
    floor = FLOOR
    if "min_std" in (proposal := made["PlanProposalNetwork"]):
        floor = alike("min_std", proposal, made["PlanRecognitionNetwork"])
    return Gaussian(size=made["PlanProposalNetwork"]["plan_features"], floor=floor)


def recognition_of(case: GoldenCase, made: Named[Any], seen: Percepts) -> RecurrentRecognition | AttentiveRecognition:
    """The posterior's network, of either kind."""
    names = ("PlanRecognitionTransformersNetwork", "PlanRecognitionBiRNNNetwork", "PlanRecognitionNetwork")
    kind = nearest_key(made, *names)
    given, num = made[kind], seen.steps.num
    if kind == names[0]:
        return AttentiveRecognition(
            width=given["fc_hidden_size"],
            percept_width=seen.width,
            num_steps=num,
            mlp=given["encoder_hidden_size"],
            heads=given["num_heads"],
            depth=given["num_layers"],
            num_places=given["max_position_embeddings"] if given["position_embedding"] else 0,
            norm_first=given["positional_normalize"],
            norm_last=given["encoder_normalize"],
        )
    cell = "relu" if kind == names[2] else READERS[nearest_key(READERS, given["rnn_type"])]
    depth = sum(name.startswith("plan_recognition.birnn_model.bias_ih") for name in case.weights) // 2
    width = 2 * case.weights["plan_recognition.birnn_model.weight_hh_l0"].shape[1]
    return RecurrentRecognition(width=width, percept_width=seen.width, num_steps=num, depth=depth, cell=cell)


def nearest_key(found: Mapping[str, Any], *wanted: str) -> str:
    """The first of some names that is there."""
    for name in wanted:
        if name in found:
            return name
    raise InputError(
        where="Play-LMP case", expected=f"one of {sorted(found)}", got=str(wanted), do=nearest(wanted[0], found)
    )


def alike(name: str, *given: Named[Any]) -> Any:
    """A setting that several networks must share."""
    found = {str(one[name]) for one in given}
    if len(found) > 1:
        where = given[0].where
        raise InputError(where=f"{where}.{name}", expected="one for all", got=str(sorted(found)), do="Record it so.")
    return given[0][name]


def bend_of(*given: Named[Any]) -> Bend:
    """What stands between layers."""
    name = alike("activation_function", *given).lower()
    return nearest_key({str(bend): bend for bend in BENDS}, name)  # pyright: ignore[reportReturnType]


def picture_network(case: GoldenCase, given: Named[Any]) -> PictureNetwork:
    """The static camera's network."""
    temperature = given.get("spatial_softmax_temp", 1.0)
    bend = nearest_key({str(bend): bend for bend in ACTIVATIONS}, given["activation_function"].lower())
    return PictureNetwork(
        image_hw=(given["input_height"], given["input_width"]),
        features=given["visual_features"],
        hidden=len(case.weights["vision_static.fc1.0.bias"]),
        channels=given["num_c"],
        temperature=temperature if isinstance(temperature, float) else None,
        waves=given.get("use_sinusoid", False),
        unit=given["l2_normalize_output"],
        norm="vision_static.ln.weight" in case.weights,
        bend=bend,  # pyright: ignore[reportArgumentType]
    )
