"""AVDC's text-to-video UNet as recorded from the released code (MIT): the planner's network, its loss, its walks.

Recorded clips hold frames and colours on one axis, in 0..1; the observed frame stays in 0..1 while the video is mapped
to -1..1, a quirk of the code that is kept here. Words come as states of a text encoder.
"""

from __future__ import annotations

import re
from itertools import pairwise

import torch
from einops import rearrange, repeat
from torch import Tensor

from crossroads.diffusion import CosineBetas, Process
from crossroads.errors import InputError
from crossroads.parity.case import GoldenCase, Tolerance
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing
from crossroads.parity.vpp import limit, stated
from crossroads.towers.planner_unet import PlannerFrame, PlannerUNet, Resampler

ANSWERS = {"pred_v": "v", "pred_noise": "epsilon", "pred_x0": "sample"}
NAMES = (
    (r"^unet\.time_embed\.0", "step_in"),
    (r"^unet\.time_embed\.2", "step_out"),
    (r"^unet\.task_attnpool\.1", "words.out"),
    (r"^unet\.task_attnpool\.0\.", "words."),
    (r"pos_emb", "places"),
    (r"to_latents_from_mean_pooled_seq", "pooled"),
    (r"layers\.(\d+)\.0\.norm\.", r"layers.\1.norm_read."),
    (r"layers\.(\d+)\.0\.norm_latents", r"layers.\1.norm_own"),
    (r"layers\.(\d+)\.0\.to_out\.0", r"layers.\1.out"),
    (r"layers\.(\d+)\.0\.to_out\.1", r"layers.\1.norm_out"),
    (r"layers\.(\d+)\.0\.to_(q|kv)", r"layers.\1.\2"),
    (r"layers\.(\d+)\.0\.([qk]_scale)", r"layers.\1.\2"),
    (r"layers\.(\d+)\.1\.", r"layers.\1.feed."),
    (r"\.g$", ".scale"),
    (r"^unet\.input_blocks\.0\.0", "enter_conv"),
    (r"^unet\.middle_block", "middle"),
    (r"^unet\.output_blocks", "up"),
    (r"^unet\.out\.0", "norm"),
    (r"^unet\.out\.2", "leave_conv"),
    (r"in_layers\.0", "norm_in"),
    (r"in_layers\.2", "conv_in"),
    (r"emb_layers\.1", "told"),
    (r"out_layers\.0", "norm_out"),
    (r"out_layers\.3", "conv_out"),
    (r"skip_connection", "skip"),
    (r"proj_out", "out"),
    (r"\.op\.", ".conv."),
    (r"_conv\.(weight|bias)$", r".\1"),
)
"""Published names to ours, one after the other."""


def our_name(published: str) -> str:
    """Our name of a published weight."""
    name = published
    if found := re.match(r"^unet\.input_blocks\.(\d+)\.", name):
        number = int(found[1])
        name = f"down.{number - 1}.{name[found.end() :]}" if number else name
    for pattern, ours in NAMES[:-1]:
        name = re.sub(pattern, ours, name)
    return re.sub(r"\.(spatial|temporal)_conv\.", r".\1.", name)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    return Planner(case).produced()


class Planner:
    """The network with recorded weights, and the process that it undoes."""

    def __init__(self, case: GoldenCase) -> None:
        self.case = case
        made = case.meta["constructor_arguments"]["GoalGaussianDiffusion"]
        made.demand({"beta_schedule": "cosine", "loss_type": "l2"})
        if made["objective"] not in ANSWERS:
            raise InputError(
                where=f"{made.where}.objective",
                expected=" or ".join(ANSWERS),
                got=repr(made["objective"]),
                do="crossroads has no other form of this process.",
            )
        self.process = Process(
            betas=CosineBetas(),
            num_steps=made["timesteps"],
            answers=ANSWERS[made["objective"]],  # pyright: ignore
        )
        self.frame: PlannerFrame = planner_of(case).frame().eval()
        self.frame.load_state_dict({our_name(name): weight for name, weight in case.weights.items()})

    def answer(self, folded: Tensor, step: Tensor, words: Tensor) -> Tensor:
        """The network on folded frames, with the observed frame beside each."""
        clip = rearrange(folded, "b (t c) h w -> b c t h w", t=self.frame.spec.frames)
        beside = repeat(self.case.inputs["x_cond"], "b c h w -> b c t h w", t=clip.shape[2])
        valid = torch.ones(words.shape[:2], dtype=torch.bool)
        found = self.frame.answer(torch.cat([clip, beside], dim=1), step, words, valid)
        return rearrange(found, "b c t h w -> b (t c) h w")

    @torch.no_grad()
    def produced(self) -> Produced:
        given = self.case.inputs
        words, step = given["task_tokens"], given["t"]
        taps = [name for name in self.case.outputs if name.startswith("tap_")]
        first = re.compile(r"tap_input_block_(\d+)")
        heard: dict[str, Tensor] = {}
        modules = {
            name: self.frame.get_submodule(f"down.{int(found[1]) - 1}.{self._last(int(found[1]) - 1)}")
            if (found := first.fullmatch(name)) and found[1] != "0"
            else self.frame.get_submodule("enter_conv" if found else "middle.2")
            for name in taps
        }
        for name, module in modules.items():
            with hearing(module) as outputs:
                self.answer(given["x_noisy"], step, words)
            heard[name] = outputs[-1]
        return Produced(
            outputs={
                **heard,
                "unet_out": self.answer(given["x_noisy"], step, words),
                "unet_out_uncond": self.answer(given["x_noisy"], step, 0 * words),
                **self._learned(),
                **self._walks(),
            },
            tolerances={name: Tolerance(absolute=5e-3) for name in self.case.outputs if "guidance_w" in name},
        )

    def _last(self, number: int) -> int:
        """The last part of a stage on the way down."""
        return len(list(self.frame.get_submodule(f"down.{number}").children())) - 1

    def _learned(self) -> dict[str, Tensor]:
        given, made = self.case.inputs, self.case.meta["constructor_arguments"]["GoalGaussianDiffusion"]
        clean, noise, step = 2 * given["video"] - 1, given["noise"], given["t"]
        level = self.process.level(step)[:, None, None, None]
        noisy, owed = self.process.noised(clean, noise, level), self.process.owed(clean, noise, level)
        error = ((self.answer(noisy, step, given["task_tokens"]) - owed) ** 2).flatten(1).mean(dim=1)
        weight = self._weight(stated(made, "min_snr_loss_weight", False), stated(made, "min_snr_gamma", 5))
        return {
            "q_sample": noisy,
            "v_target": owed,
            "loss": (error * weight[step]).mean(),
            "alphas_cumprod": self.process.kept().float(),
            "loss_weight": weight,
        }

    def _weight(self, clipped: bool, most: float) -> Tensor:
        """Hang et al. 2023, arXiv 2303.09556: the ratio of signal to noise, at most ``most``, by what is answered."""
        kept = self.process.kept()
        ratio = kept / (1 - kept)
        weight = ratio.clamp(max=most) if clipped else ratio
        return (weight / {"v": ratio + 1, "epsilon": ratio, "sample": 1.0}[self.process.answers]).float()

    def _parts(self, x: Tensor, step: int, scale: float, clip: bool) -> tuple[Tensor, Tensor]:
        """Clean and noise of a state, guided away from no words."""
        at = torch.full((len(x),), step)
        words = self.case.inputs["task_tokens"]
        clean, noise = self.process.parts(x, self.answer(x, at, words), step)
        if scale:
            _, without = self.process.parts(x, self.answer(x, at, 0 * words), step)
            noise = (1 + scale) * noise - scale * without
        if scale or clip:
            kept = self.process.kept()[step]
            clean = (x - (1 - kept).sqrt() * noise) / kept.sqrt()
        return (clean.clamp(-1, 1) if clip else clean).float(), noise.float()

    def _walks(self) -> dict[str, Tensor]:
        found = {}
        for name in self.case.outputs:
            if matched := re.fullmatch(r"(ddim|ddpm)_sample_guidance_(0|w)_all_steps", name):
                scale = self.case.meta["constructor_arguments"]["guidance_weight_w"] if matched[2] == "w" else 0.0
                states = self._ddim(scale) if matched[1] == "ddim" else self._ddpm(scale)
                found[name] = (torch.stack(states, dim=1) + 1) / 2
        return found

    def _ddim(self, scale: float) -> list[Tensor]:
        num = self.case.meta["constructor_arguments"]["ddim_steps"]
        visited = torch.linspace(-1, self.process.num_steps - 1, num + 1).int().tolist()[::-1]
        kept, states = [*self.process.kept().tolist(), 1.0], [self.case.inputs["sampler_x_T"]]
        for step, after in pairwise(visited):
            clean, noise = self._parts(states[-1], step, scale, clip=False)
            states.append(kept[after] ** 0.5 * clean + (1 - kept[after]) ** 0.5 * noise)
        return states

    def _ddpm(self, scale: float) -> list[Tensor]:
        kept, states = [*self.process.kept().tolist(), 1.0], [self.case.inputs["sampler_x_T"]]
        for index, step in enumerate(reversed(range(self.process.num_steps))):
            x, (clean, _) = states[-1], self._parts(states[-1], step, scale, clip=True)
            old, new = kept[step], kept[step - 1]
            share = 1 - old / new
            x = new**0.5 * share / (1 - old) * clean + (old / new) ** 0.5 * (1 - new) / (1 - old) * x
            if step:
                x = x + ((1 - new) / (1 - old) * share) ** 0.5 * self.case.inputs["ddpm_step_noise"][index]
            states.append(x)
        return states


def planner_of(case: GoldenCase) -> PlannerUNet:
    """The specification of a recorded UNet."""
    made = case.meta["constructor_arguments"]["UNetModel"]
    made.demand({"conv_resample": True, "dims": 3, "num_classes": None, "task_tokens": True})
    weights, replaced = case.weights, "PerceiverResampler"
    pooling = "unet.task_attnpool.0."
    resampled = stated(case.meta, "size_constants_replaced", {})
    told = resampled[replaced][1] if replaced in resampled else {"heads": 8, "dim_head": 64}
    latents, width = weights[f"{pooling}latents"].shape
    layers = {re.sub(r"^.*layers\.(\d+).*$", r"\1", name) for name in weights if f"{pooling}layers." in name}
    return PlannerUNet(
        frames=case.inputs["x_noisy"].shape[1] // made["out_channels"],
        latent_hw=tuple(case.inputs["x_noisy"].shape[-2:]),  # pyright: ignore[reportArgumentType]
        channels=made["out_channels"],
        beside=made["in_channels"] - made["out_channels"],
        base=made["model_channels"],
        blocks=made["num_res_blocks"],
        multiples=tuple(made["channel_mult"]),
        attends=tuple(made["attention_resolutions"]),
        head_channels=made["num_head_channels"],
        context_width=width,
        resampler=Resampler(
            heads=told["heads"],
            head_dim=told["dim_head"],
            depth=len(layers),
            latents=latents,
            pooled=weights[f"{pooling}to_latents_from_mean_pooled_seq.1.weight"].shape[0] // width,
            places=weights[f"{pooling}pos_emb.weight"].shape[0],
        ),
        num_steps=case.meta["constructor_arguments"]["GoalGaussianDiffusion"]["timesteps"],
        groups=limit(case, "GroupNorm groups", 32),
    )
