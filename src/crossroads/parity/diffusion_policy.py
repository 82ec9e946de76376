"""Diffusion Policy as recorded from the official low-dimensional policies (MIT): the UNet's and the transformer's.

A case holds the network, one training step and one prediction. What was observed is told to all actions, beside each
action, or as numbers of the trajectory itself that are put back before every step (``Told``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from crossroads.diffusion import Around, CosineBetas, Ddim, Ddpm, LinearBetas, Process, SquaredBetas
from crossroads.errors import InputError
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing
from crossroads.recipes.diffusion_policy_names import transformer_name, unet_name
from crossroads.towers.action_transformer import ActionTransformer, ActionTransformerFrame
from crossroads.towers.action_unet import ActionUNet, ActionUNetFrame
from crossroads.towers.observed_steps import ObservedSteps

Told = Literal["globally", "locally", "inside"]
Answers = Mapping[str, Literal["epsilon", "sample", "v"]]
ANSWERS: Answers = {"epsilon": "epsilon", "sample": "sample", "v_prediction": "v"}
ONE_FORM = {"timestep_spacing": "leading", "steps_offset": 0, "thresholding": False, "trained_betas": None}
ONE_FORM |= {"rescale_betas_zero_snr": False, "set_alpha_to_one": True}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was observed as a network is given it: for all actions, beside each, or fixed numbers of the trajectory."""

    told: Tensor | None = None
    beside: Tensor | None = None
    fixed: Tensor | None = None

    def put_back(self, trajectory: Tensor, num: int) -> Tensor:
        """A trajectory with what was observed at its first ``num`` steps in the place of what was made of it."""
        if self.fixed is None:
            return trajectory
        size = self.fixed.shape[-1]
        held = torch.cat([trajectory[:, :num, :-size], self.fixed[:, :num]], dim=-1)
        return torch.cat([held, trajectory[:, num:]], dim=1)


def run_unet(case: GoldenCase) -> Produced:
    """Everything that a case of the UNet records."""
    return RecordedUNet(case).produced()


def run_transformer(case: GoldenCase) -> Produced:
    """Everything that a case of the transformer records."""
    return RecordedTransformer(case).produced()


class Recorded:
    """A network with recorded weights, and its policy. ``first``: the first action that a prediction hands on."""

    first: int
    told: Told

    def __init__(self, case: GoldenCase) -> None:
        self.case, made = case, case.meta["constructor_arguments"]
        self.made, self.policy, self.process = made["model"], made["policy"], process_of(made["scheduler"])
        self.scheduler = made["scheduler"]
        self.observed, self.num_actions = self.policy["n_obs_steps"], self.policy["n_action_steps"]
        self.alone = bool(self.policy.get("pred_action_steps_only", False))

    def answer(self, trajectory: Tensor, step: Tensor, seen: Seen) -> Tensor:
        """The network's answer."""
        raise NotImplementedError  # abstract

    def taps(self, trajectory: Tensor, step: Tensor, seen: Seen) -> dict[str, Tensor]:
        """What happens inside, under the recorded names."""
        raise NotImplementedError  # abstract

    def normal(self, name: str, values: Tensor) -> Tensor:
        """Recorded numbers in the network's units."""
        scale, offset = (self.case.weights[f"normalizer.params_dict.{name}.{part}"] for part in ("scale", "offset"))
        return values * scale + offset

    def physical(self, name: str, values: Tensor) -> Tensor:
        scale, offset = (self.case.weights[f"normalizer.params_dict.{name}.{part}"] for part in ("scale", "offset"))
        return (values - offset) / scale

    def seen(self, normal: Tensor) -> Seen:
        """Observed steps, in the network's units, as the policy gives them to its network."""
        num = self.observed
        if self.told == "globally":
            return Seen(told=normal[:, :num])
        if self.told == "locally":
            return Seen(beside=torch.cat([normal[:, :num], torch.zeros_like(normal[:, num:])], dim=1))
        return Seen(fixed=normal)

    @torch.no_grad()
    def produced(self) -> Produced:
        given, outputs = self.case.inputs, dict[str, Tensor]()
        seen = self.given()
        trajectory, step = given["noisy_trajectory"], given["t"]
        outputs |= self.taps(trajectory, step, seen)
        outputs["model_out"] = self.answer(trajectory, step, seen)
        outputs["normalized_obs"] = self.normal("obs", given["obs"])
        outputs["normalized_action"] = self.normal("action", given["action"])
        outputs["loss"] = self.learned(outputs["normalized_obs"], outputs["normalized_action"])
        outputs["alphas_cumprod"] = self.process.kept().float()
        outputs |= self.predicted(outputs["normalized_obs"])
        return Produced(outputs=outputs)

    def given(self) -> Seen:
        """What is told in the recorded forward pass."""
        given = self.case.inputs
        told = given.get("cond", given.get("global_cond"))
        if told is not None:
            told = told.reshape(len(told), self.observed, -1)
        return Seen(told=told if self.told == "globally" else None, beside=given.get("local_cond", self._beside()))

    def _beside(self) -> Tensor | None:
        return self.case.inputs.get("cond") if self.told == "locally" else None

    def learned(self, obs: Tensor, action: Tensor) -> Tensor:
        """One training step."""
        given, seen = self.case.inputs, self.seen(obs)
        if self.alone:
            action = action[:, self.first : self.first + self.num_actions]
        clean = action if seen.fixed is None else torch.cat([action, obs], dim=-1)
        level = self.process.level(given["t"])[:, None, None]
        noised = seen.put_back(self.process.noised(clean, given["noise"], level), self.observed)
        owed = self.process.owed(clean, given["noise"], level)
        error = (self.answer(noised, given["t"], seen) - owed) ** 2
        if seen.fixed is not None:
            error[:, : self.observed, action.shape[-1] :] = 0  # counted in the mean, as published does
        return error.mean()

    def predicted(self, obs: Tensor) -> dict[str, Tensor]:
        """A chunk from recorded noise, and each step to it."""
        given, seen, size = self.case.inputs, self.seen(obs), self.policy["action_dim"]
        visited = self.process.steps(stated(self.policy, "num_inference_steps", self.process.num_steps), "leading")
        x, states, answers = given["sampler_x_T"], list[Tensor](), list[Tensor]()
        for number, (step, after) in enumerate(zip(visited, [*visited[1:], -1], strict=True)):
            x = seen.put_back(x, self.observed)
            states.append(x)
            answers.append(self.answer(x, torch.full((len(x),), step), seen))
            mean, std = self.around(x.flatten(1), answers[-1].flatten(1), step, after)
            x = mean.reshape(x.shape)
            if number < len(noise := given.get("sampler_step_noise", ())):
                x = x + std * noise[number]
        x = seen.put_back(x, self.observed)
        chunk = self.physical("action", x[..., :size])
        part = slice(None) if self.alone else slice(self.first, self.first + self.num_actions)
        found = {"policy_action_pred": chunk, "policy_action": chunk[:, part]}
        if seen.fixed is not None:
            there = self.physical("obs", x[..., size:])
            found |= {"policy_obs_pred": there, "policy_action_obs_pred": there[:, part]}
        return found | {
            "sampler_step_input": torch.stack(states),
            "sampler_step_model_out": torch.stack(answers),
            "sampler_timesteps": torch.tensor(visited),
        }

    def around(self, x: Tensor, found: Tensor, step: int, after: int) -> Around:
        """One step of the recorded scheduler."""
        made = self.scheduler
        clip = float(made.get("clip_sample_range", 1.0)) if made.get("clip_sample", True) else None
        if implicit(made, self.policy):
            eta = float(self.policy.get("eta", 0.0))
            return Ddim(process=self.process, steps=1, eta=eta, clip=clip).around(x, found, step, after)
        mean, std = Ddpm(process=self.process, steps=1, clip=clip).around(x, found, step, after)
        if made.get("variance_type", "fixed_small") == "fixed_large" and after >= 0:
            std = (1 - self.process.kept_at(step) / self.process.kept_at(after)) ** 0.5
        return mean, std


class RecordedUNet(Recorded):
    """The policy on a UNet."""

    frame: ActionUNetFrame

    def __init__(self, case: GoldenCase) -> None:
        super().__init__(case)
        locally = bool(self.policy.get("obs_as_local_cond", False))
        globally = bool(self.policy.get("obs_as_global_cond", False))
        self.told = "locally" if locally else "globally" if globally else "inside"
        # The code's own default hands on the action behind the last observed step, its configurations that of the step.
        self.first = self.observed - (1 if self.policy.get("oa_step_convention", False) else 0)
        made, width = self.made, self.made.get("global_cond_dim")
        if width and width % self.observed:
            raise InputError(
                where=f"{made.where}.global_cond_dim",
                expected=f"as many numbers for each of {self.observed} observed steps",
                got=str(width),
                do="Record the case again.",
            )
        spec = ActionUNet(
            width=made["input_dim"],
            num_actions=case.inputs["noisy_trajectory"].shape[1],
            channels=tuple(made.get("down_dims", (256, 512, 1024))),
            seen=ObservedSteps(num=self.observed, state_width=width // self.observed) if width else None,
            level_width=made.get("diffusion_step_embed_dim", 256),
            kernel=made.get("kernel_size", 3),
            groups=made.get("n_groups", 8),
            scaled=made.get("cond_predict_scale", False),
            local_width=made.get("local_cond_dim") or 0,
            num_steps=self.process.num_steps,
        )
        self.frame = spec.frame().eval()
        load(self.frame, {unet_name(name): weight for name, weight in model_weights(case)})

    def answer(self, trajectory: Tensor, step: Tensor, seen: Seen) -> Tensor:
        told = None if seen.told is None else rearrange(seen.told, "b t c -> b (t c)")
        return self.frame.answer(trajectory, step, told, seen.beside)

    def taps(self, trajectory: Tensor, step: Tensor, seen: Seen) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in self.case.outputs:
            if matched := re.fullmatch(r"tap_(down|up)(\d+)_(res|sample)(\d*)", name):
                part = int(matched[4] or 0) if matched[3] == "res" else 2
                module = f"{matched[1]}.{matched[2]}.{part}"
            elif name == "tap_mid_out":
                module = "middle.1"
            else:
                continue
            with hearing(self.frame.get_submodule(module)) as heard:
                self.answer(trajectory, step, seen)
            found[name] = heard[0]
        return found


class RecordedTransformer(Recorded):
    """The policy on a transformer."""

    frame: ActionTransformerFrame

    def __init__(self, case: GoldenCase) -> None:
        super().__init__(case)
        made, width = self.made, self.made.get("cond_dim", 0)
        self.told, self.first = "globally" if width else "inside", self.observed - 1
        num = made.get("n_obs_steps")
        spec = ActionTransformer(
            width=made.get("n_emb", 768),
            depth=made.get("n_layer", 12),
            heads=made.get("n_head", 12),
            num_actions=made["horizon"],
            seen=ObservedSteps(num=made["horizon"] if num is None else num, state_width=width) if width else None,
            reading_depth=made.get("n_cond_layers", 0) if made.get("time_as_cond", True) else 0,
            causal=made.get("causal_attn", False),
            step_read=made.get("time_as_cond", True),
            num_steps=self.process.num_steps,
        )
        self.frame = spec.frame().eval()
        weights = {transformer_name(name, reads=spec.step_read): weight for name, weight in model_weights(case)}
        self.ends = {name: weights.pop(name) for name in list(weights) if name.startswith(("enter.", "leave."))}
        load(self.frame, {name: weight for name, weight in weights.items() if "mask" not in name})

    def answer(self, trajectory: Tensor, step: Tensor, seen: Seen) -> Tensor:
        enter, leave = ((self.ends[f"{end}.weight"], self.ends[f"{end}.bias"]) for end in ("enter", "leave"))
        return functional.linear(self.frame.answer(functional.linear(trajectory, *enter), step, seen.told), *leave)

    def taps(self, trajectory: Tensor, step: Tensor, seen: Seen) -> dict[str, Tensor]:
        found, spec = dict[str, Tensor](), self.frame.spec
        num = trajectory.shape[1] + (0 if spec.step_read else 1)
        own, read = self.frame.masks(num)
        last = f"layers.{spec.depth - 1}"
        read_last = f"read_layers.{spec.reading_depth - 1}" if spec.reading_depth else "read_out"
        modules = {"tap_memory": read_last, "tap_encoder_out": last, "tap_decoder_out": last}
        for name in modules.keys() & self.case.outputs.keys():
            with hearing(self.frame.get_submodule(modules[name])) as heard:
                self.answer(trajectory, step, seen)
            found[name] = heard[0]
        everything = torch.ones(num, num, dtype=torch.bool), torch.ones(num, spec.num_read, dtype=torch.bool)
        labels = ("self_attention_visible", "memory_attention_visible")
        for label, mask, full in zip(labels, (own, read), everything, strict=True):
            found[label] = (full if mask is None else mask).to(torch.uint8)
        return found


def process_of(made: Named) -> Process:
    """The process of a recorded scheduler of diffusers."""
    made.demand(ONE_FORM)
    ends = {"first": float(made.get("beta_start", 1e-4)), "last": float(made.get("beta_end", 0.02))}
    betas = {
        "linear": LinearBetas(**ends),
        "scaled_linear": SquaredBetas(**ends),
        "squaredcos_cap_v2": CosineBetas(),
    }
    schedule, answers = made.get("beta_schedule", "linear"), made.get("prediction_type", "epsilon")
    variance = made.get("variance_type", "fixed_small")
    for where, known, got in (
        ("beta_schedule", betas, schedule),
        ("prediction_type", ANSWERS, answers),
        ("variance_type", ("fixed_small", "fixed_small_log", "fixed_large"), variance),
    ):
        if got not in known:
            raise InputError(
                where=f"{made.where}.{where}",
                expected=" or ".join(known),
                got=repr(got),
                do="crossroads has no other form of this process.",
            )
    return Process(betas=betas[schedule], num_steps=made.get("num_train_timesteps", 1000), answers=ANSWERS[answers])


def implicit(scheduler: Named, policy: Named) -> bool:
    """Whether the recorded scheduler is that of implicit models: it says so, or has settings that only those have."""
    named = any(
        "DDIM" in str(scheduler.get(key, "")).upper() for key in ("class", "name", "type", "_target_", "_class_name")
    )
    return named or "set_alpha_to_one" in scheduler or "eta" in policy


def stated(made: Named, name: str, default: int) -> int:
    """A number of a constructor that may be None."""
    found = made.get(name)
    return default if found is None else found


def model_weights(case: GoldenCase) -> list[tuple[str, Tensor]]:
    """The weights of a policy's network by their names in it."""
    found = [
        (name.removeprefix("model."), weight) for name, weight in case.weights.items() if name.startswith("model.")
    ]
    return [(name, weight) for name, weight in found if "_dummy_variable" not in name]


def load(frame: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a network, each of which must have its place."""
    own = frame.state_dict()
    frame.load_state_dict({n: w.reshape(own[n].shape) if n in own else w for n, w in weights.items()})
