"""Play-LMP as recorded from mees/calvin (``mcil``) and lukashermann/hulc (``hulc``), both MIT.

A case holds training steps under a goal picture and under words, and actions that were drawn. What is seen is saved as
the vector of each step, so our recipe sees no pictures here: it takes the vectors for joints. Its networks are those
of the recipe at the recorded sizes; the picture network is held against its recording alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from crossroads.build import build
from crossroads.codecs.banks import ACTIVATIONS
from crossroads.codecs.keypoints import PictureFeatures
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.tool_frame import to_tool, to_world
from crossroads.learner import Prepared
from crossroads.parity.case import GoldenCase, Named, Tolerance
from crossroads.parity.compare import Produced
from crossroads.parity.play_lmp_sizes import picture_network, size_of
from crossroads.parity.recorded import hearing, joint_of, load_module, load_published
from crossroads.plans import KL, Categories, Gaussian
from crossroads.policy import StreamPolicy
from crossroads.recipes.play_lmp import play_lmp
from crossroads.recipes.play_lmp_names import picture_names, play_lmp_names
from crossroads.recipes.play_lmp_sizes import PlaySize
from crossroads.space import ActionSpace
from crossroads.streams import Corrupted
from crossroads.towers.group import GroupState
from crossroads.towers.playing import PlanDecoderFrame
from crossroads.towers.recurrent import Went

GOALS = ("visual", "language")
TURNING = Tolerance(absolute=1e-3, relative=2e-4)
"""Of what is turned between frames, as recordings say in words: turns are counted in hundredths of a radian."""
UNUSED = (
    r"(vision_\w+|proj_vis_lang)\..*|logit_scale|plan_recognition\.positional_encoder\.pe|"
    r"action_decoder\.(one_hot_embedding_eye|ones|\w+_bounds?)"
)
"""What is loaded apart, learned apart, or computed here."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """One training step under a goal: what was prepared and drawn, the states that were left, and the decoder's."""

    policy: StreamPolicy
    prepared: Prepared
    states: Mapping[str, GroupState]
    went: Went

    def told(self, group: str) -> Tensor:
        """What a group tells of the plan."""
        return self.policy.net.codec(group).read(self.states[group].hidden)[:, 0]

    @property
    def actions(self) -> Tensor:
        """What is told of the actions."""
        return self.policy.net.codec("action").read(self.states["action"].hidden)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    made = case.meta["constructor_arguments"]
    size = size_of(case, made)
    policy = policy_of(size, case)
    steps = {goal: learned(policy, case, goal) for goal in GOALS}
    outputs: dict[str, Tensor] = {}
    for goal, step in steps.items():
        outputs |= told_of(step, case, goal)
    outputs |= pictured(case, made)
    outputs |= acted(policy, case, steps) if "u_gumbel_1" in case.inputs else {}
    outputs |= sampled(size, steps["language"], case, made) if "u_gumbel" in case.inputs else {}
    outputs |= contrasted(steps["language"], case) if "use_for_aux" in case.inputs else {}
    turned = ("actions_tcp", "actions_world_again", "sampled_actions")
    return Produced(outputs=outputs, tolerances=dict.fromkeys(turned if "hulc" in case.system else (), TURNING))


# One training step


def policy_of(size: PlaySize, case: GoldenCase) -> StreamPolicy:
    """The recipe at a size with the published weights."""
    actions = tuple(f"action {index}" for index in range(size.action.action_size))
    space = ActionSpace(
        robot="recorded",
        action_names=actions,
        action_units=("1",) * len(actions),
        low=(-1e9,) * len(actions),
        high=(1e9,) * len(actions),
        state_names=tuple(f"number {index}" for index in range(size.seen.num_state)),
        control_hz=1.0,
    )
    policy = build(play_lmp(size), space, seed=0).eval()
    names = play_lmp_names(size, apart="plan_proposal.mean_fc.weight" in case.weights)
    unused = frozenset(name for name in case.weights if re.fullmatch(UNUSED, name))
    load_published(policy.net, names, case.weights, unused=unused)
    return policy


def targets(case: GoldenCase) -> Tensor:
    """The actions that are learned: in the hand's frame where the decoder tells them so."""
    decoder = case.meta["constructor_arguments"].get("LogisticDecoderRNN") or {}
    actions = case.inputs["actions"]
    return to_tool(actions, case.inputs["robot_obs"][..., 3:6]) if decoder.get("gripper_control") else actions


def learned(policy: StreamPolicy, case: GoldenCase, goal: str) -> Learned:
    """A training step under a goal, with the plan drawn from recorded noise."""
    noise = plan_noise(policy, case)
    prepared = latents(policy, case, goal, noise)
    with torch.no_grad():
        prepared, states = policy.drawn(prepared, {})
        return finished(policy, prepared, states)


def latents(policy: StreamPolicy, case: GoldenCase, goal: str, plan: Tensor) -> Prepared:
    """What the network is given."""
    seen, actions = case.inputs["percep_emb"], targets(case)
    num, zero = len(seen), torch.zeros(len(seen), 1)
    pictured = torch.full((num, 1), goal == "visual")
    found = {
        "seen": all_valid(seen),
        "aim": Latent(values=seen[:, -1:], valid=pictured),
        "goal": all_valid(case.inputs["lang"][:, None]),
        "proposed": all_valid(torch.zeros(num, 1, 0)),
        "recognised": all_valid(torch.zeros(num, 1, 0)),
        "plan": all_valid(plan[:, None]),
        "action": all_valid(torch.zeros_like(actions)),
    }
    owed = {
        "plan": Corrupted(latent=plan[:, None], level=zero, target=torch.zeros_like(plan[:, None])),
        "action": Corrupted(latent=torch.zeros_like(actions), level=zero, target=actions),
    }
    return Prepared(latents=found, levels=dict.fromkeys(found, zero), owed=owed, given={})


def plan_noise(policy: StreamPolicy, case: GoldenCase) -> Tensor:
    """Noise by which the recorded plan is drawn."""
    plan = policy.recipe.stage.stream("plan").objective
    assert isinstance(plan, KL)
    if isinstance(plan.family, Gaussian):
        return case.inputs["plan_eps_vis" if "plan_eps_vis" in case.inputs else "plan_eps"]
    chosen = functional.one_hot(case.inputs["plan_index"], plan.family.classes).float().flatten(1)
    return 10 * chosen - 5  # far beyond what any score could outweigh


def finished(policy: StreamPolicy, prepared: Prepared, states: Mapping[str, GroupState]) -> Learned:
    """The step once the plan is known."""
    frame = joint_of(policy.net, "decoder").frames["decoder"]
    assert isinstance(frame, PlanDecoderFrame)
    valid = {name: state.valid for name, state in states.items()}
    rest = frozenset(prepared.latents) - set(states)
    with hearing(frame.cells) as went:
        states = {**states, **policy.net(policy.inputs(prepared, rest, valid), states)}
    return Learned(policy=policy, prepared=prepared, states=states, went=went[-1])


# What is recorded of it


def told_of(step: Learned, case: GoldenCase, goal: str) -> dict[str, Tensor]:
    """Goals, plans, divergences and actions of one step."""
    policy = step.policy
    plan = policy.recipe.stage.stream("plan").objective
    assert isinstance(plan, KL)
    prior, posterior = step.told("proposed"), step.told("recognised")
    terms = policy.losses_of(step.prepared, step.states).terms
    scaled, action = terms["plan"].mean(), terms["action"].mean()
    made = {
        f"goal_{goal}": step.states["goal"].taps[0][:, 0],
        "posterior_seq_feature": step.states["recognised"].hidden[:, 0],
        f"kl_{goal}": plan.family.divergence(posterior, prior),
        f"kl_per_sample_{goal}": plan.family.divergence(posterior, prior),
        f"kl_loss_scaled_{goal}": scaled,
        f"kl_balanced_scaled_{goal}": scaled,
        f"action_nll_{goal}": action,
        f"action_loss_{goal}": action,
        f"total_loss_{goal}": scaled + action,
        **{f"{name}_{goal}": part for name, part in parts_of(step).items()},
    }
    if step.went.states:
        made[f"rnn_state_{goal}"] = step.went.after(-1)
    gradients = slopes(plan, prior, posterior)
    for name, told, gradient in zip(("prior", "posterior"), (prior, posterior), gradients, strict=True):
        suffix = "" if name == "posterior" else f"_{goal}"
        made |= {f"{name}_{part}{suffix}": value for part, value in family_parts(plan, told).items()}
        made |= {f"grad_kl_{name}_{part}_{goal}": value for part, value in split_of(plan, gradient).items()}
    return made


def parts_of(step: Learned) -> dict[str, Tensor]:
    """The mixtures that a step tells."""
    law = step.policy.recipe.stage.stream("action").codec.law  # pyright: ignore[reportAttributeAccessIssue]
    parts = law.parts(step.actions)
    return {"logit_probs": parts.scores, "log_scales": parts.log_scales, "means": parts.means}


def family_parts(plan: KL, told: Tensor) -> dict[str, Tensor]:
    """What is recorded of a distribution."""
    if isinstance(plan.family, Categories):
        return {"logit": told}
    mean, log_variance = plan.family.mean_and_log_variance(told)
    return {"mean": mean, "std": (log_variance / 2).exp()}


def split_of(plan: KL, told: Tensor) -> dict[str, Tensor]:
    """Gradients of what is told, by its parts."""
    if isinstance(plan.family, Categories):
        return {"logit": told}
    mean, spread = told.chunk(2, dim=1)
    return {"mean": mean, "var": spread}


def slopes(plan: KL, prior: Tensor, posterior: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the mean divergence, as it is weighed, by what is told."""
    prior, posterior = (told.detach().requires_grad_() for told in (prior, posterior))
    nothing = torch.zeros(len(prior), 1)
    owed = Corrupted(latent=nothing, level=nothing, target=posterior[:, None])
    cost = plan.weight * plan.loss(prior[:, None], owed, torch.ones(len(prior), 1, dtype=torch.bool)).mean()
    first, second = torch.autograd.grad(cost, (prior, posterior))
    return first, second


@torch.no_grad()
def acted(policy: StreamPolicy, case: GoldenCase, steps: Mapping[str, Learned]) -> dict[str, Tensor]:
    """Two steps of acting under words, on a plan that is drawn once."""
    plan = policy.recipe.stage.stream("plan").objective
    assert isinstance(plan, KL)
    law = policy.recipe.stage.stream("action").codec.law  # pyright: ignore[reportAttributeAccessIssue]
    made: dict[str, Tensor] = {}
    goal = "language"
    drawn = plan.family.drawn(steps[goal].told("proposed"), case.inputs["plan_eps_prior"])
    prepared = latents(policy, case, goal, drawn)
    step = finished(policy, prepared, {})
    for number in (1, 2):
        parts = law.parts(step.actions[:, number - 1 : number])
        even = (case.inputs[f"u_{kind}_{number}"] for kind in ("gumbel", "inverse"))
        made[f"act_step_{number}"] = law.placed(parts, *even)
    return {**made, "plan_from_prior": drawn, "act_state_after_2": step.went.after(1)}


@torch.no_grad()
def sampled(size: PlaySize, step: Learned, case: GoldenCase, made: Named[Any]) -> dict[str, Tensor]:
    """Actions drawn at every step of a window, and the way between the hand's frame and the world's."""
    law = size.action.law
    parts = law.parts(step.actions)
    drawn = law.placed(parts, case.inputs["u_gumbel"], case.inputs["u_inverse"])
    found = {**parts_of(step), "gripper_logits": parts.sides[..., 0, :] if law.binary else parts.sides}
    if "robot_obs" not in case.inputs:
        return {**found, "sampled_actions": drawn}
    angles = case.inputs["robot_obs"][..., 3:6]
    turned = to_tool(case.inputs["actions"], angles)
    if made["LogisticDecoderRNN"].get("gripper_control"):
        drawn = to_world(drawn, angles)
    return {**found, "sampled_actions": drawn, "actions_tcp": turned, "actions_world_again": to_world(turned, angles)}


@torch.no_grad()
def contrasted(step: Learned, case: GoldenCase) -> dict[str, Tensor]:
    """HULC's contrast of windows and words, which our recipe does not have, by its recorded maps on our states."""

    def mapped(x: Tensor, part: str) -> Tensor:
        first, second = (
            [case.weights[f"proj_vis_lang.{part}.{i}.{kind}"] for kind in ("weight", "bias")] for i in (0, 2)
        )
        return functional.linear(functional.linear(x, *first).relu(), *second)

    chosen = case.inputs["use_for_aux"]
    if not chosen.any():  # published multiplies what one sample gives by nothing
        return {"clip_contrastive_loss": torch.zeros(())}
    window, words = step.states["recognised"].hidden[:, 0][chosen], step.states["goal"].taps[0][:, 0][chosen]
    window = functional.normalize(mapped(window, "mlp_im"), dim=-1)
    words = mapped(words, "mlp_lang") if "proj_vis_lang.mlp_lang.0.weight" in case.weights else words
    scores = case.weights["logit_scale"].exp() * window @ functional.normalize(words, dim=-1).T
    own = torch.arange(len(scores))
    both = functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)
    return {"clip_contrastive_loss": both / 2}


@torch.no_grad()
def pictured(case: GoldenCase, made: Named[Any]) -> dict[str, Tensor]:
    """The static camera's network on a picture, where one is recorded."""
    if "rgb" not in case.inputs:
        return {}
    network = picture_network(case, made["VisionNetwork"])
    module = PictureFeatures(network).eval()
    names = picture_names(network, "", "vision_static.")
    places = {name for name in case.weights if not name.startswith("vision_static.") or "spatial_softmax" in name}
    load_module(module, names, case.weights, unused=frozenset(places))
    with hearing(module.convolutions[-1]) as heard:
        features = module(case.inputs["rgb"])
    maps = ACTIVATIONS[network.bend](heard[-1])
    return {"vision_embedding": features, "tap_spatial_softmax": module.places(maps)}
