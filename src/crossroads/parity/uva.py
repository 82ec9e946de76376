"""UVA as recorded from the official class (MIT): five questions in training, and what is drawn for three of them.

Recorded latents stand for the autoencoder's. In training each place of each frame and each action is noised to a step
of its own. Asked for a video, the places are found in rounds, more in each (MaskGIT, arXiv 2202.04200).
"""

from __future__ import annotations

import math
import re

import torch
from einops import rearrange, repeat
from torch import Tensor

from crossroads.diffusion import Ddpm, Process
from crossroads.errors import InputError
from crossroads.parity.case import GoldenCase, Tolerance
from crossroads.parity.compare import Produced
from crossroads.parity.diffusion_policy import load
from crossroads.recipes.uva_names import head_name, slots_name
from crossroads.towers.fused_slots import Fused, FusedSlots, FusedSlotsFrame
from crossroads.towers.token_heads import ChunkHead, ChunkHeadFrame, TokenHead, TokenHeadFrame

MODES = ("video_model", "dynamic_model", "policy_model", "inverse_model", "full_dynamic_model")
ONE_FORM = {"patch_size": 1, "predict_video": True, "mlp_ratio": 4.0, "predict_proprioception": False}
FRAMES, NUM_ACTIONS = 4, 16
"""Constants of the published code."""
UNUSED = ("fake_latent",)
"""What stands for words that were dropped, in training alone."""
SECOND = "proprioception_image_proj_cond."
"""A map for a second camera, which UMI has and does not use."""
ROBOMIMIC = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
UMI = (
    "robot0_eef_pos",
    "robot0_eef_rot_axis_angle",
    "robot0_gripper_width",
    "robot0_eef_rot_axis_angle_wrt_start",
)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    recorded = Recorded(case)
    # Videos of random weights are not clipped and grow to tens of thousands: of those the recording says how far
    # float32 itself is from exact.
    advised = case.meta.get("suggested_atol_per_output", {})
    videos = [name for name in case.outputs if name.endswith("_video") and name.startswith("sample_")]
    wide = {n: Tolerance(absolute=float(advised[n]), relative=case.tolerance.relative) for n in videos if n in advised}
    with torch.no_grad():
        return Produced(outputs={**recorded.trained(), **recorded.drawn()}, tolerances=wide)


class Recorded:
    """The three networks with recorded weights."""

    def __init__(self, case: GoldenCase) -> None:
        self.case, self.made = case, case.meta["constructor_arguments"]
        self.made.demand(ONE_FORM)
        self.process = Process(num_steps=self.made.get("act_diff_training_steps", 1000), spread=True)
        self.video_process = Process(spread=True)
        self.side = self.made["img_size"] // self.made["vae_stride"]
        self.slots = slots_of(case, self.side).frame().eval()
        heads = ("diffloss.", "diffloss_wrist.", "diffactloss.")
        unused = (*heads, SECOND) if self.made["task_name"] == "umi" else heads
        own = {n: weight for n, weight in case.weights.items() if not n.startswith(unused) and n not in UNUSED}
        load(self.slots, {slots_name(name): weight for name, weight in own.items()})
        self.video = self._head("diffloss.", TokenHead, self.made["vae_embed_dim"])
        self.wrist = self._head("diffloss_wrist.", TokenHead, self.made["vae_embed_dim"])
        self.action = self._head("diffactloss.", ChunkHead, self.made["shape_meta"]["action"]["shape"][0])

    def _head(self, prefix: str, kind: type[TokenHead], size: int) -> TokenHeadFrame | None:
        """A head, if its weights were recorded."""
        found = {name.removeprefix(prefix): w for name, w in self.case.weights.items() if name.startswith(prefix)}
        if not found:
            return None
        made, acts = self.made, kind is ChunkHead
        sizes = {
            "width": size,
            "inner": made.get("diffloss_act_w" if acts else "diffloss_w", 1024),
            "depth": made.get("diffloss_act_d" if acts else "diffloss_d", 3),
            "context_width": made["decoder_embed_dim"],
            "num_steps": self.process.num_steps if acts else 1000,
        }
        if acts:
            more = {"num_actions": NUM_ACTIONS, "frames": FRAMES, "latent_hw": (self.side, self.side)}
            sizes |= more | {"gathers": made["action_model_params"].get("act_model_type", "conv_fc")}
        frame = kind(**sizes).frame().eval()
        load(frame, {head_name(name): weight for name, weight in found.items()})
        return frame

    def places(self, latents: Tensor) -> Tensor:
        """Recorded latents of frames as tokens."""
        return rearrange(latents, "b t c h w -> b (t h w) c")

    def states(self, mode: str, shown: Tensor | None, blank: Tensor | None) -> Tensor:
        """What the heads read for a question; ``shown``: the frames to come as far as they are known."""
        given, inputs = dict[str, Tensor](), self.case.inputs
        if mode != "inverse_model":
            given["seen"] = self.places(inputs["cond_latents"])
        if shown is not None and mode != "policy_model":
            given["future"] = shown
            if "enters.wrist.weight" in self.slots.state_dict():
                given["wrist"] = self.places(inputs["pred_second_image_z"])
        if mode == "dynamic_model":
            given["action"] = inputs["actions"]
        given |= self._beside()
        return self.slots.states(given, self._words(), blank)

    def _beside(self) -> dict[str, Tensor]:
        """Earlier actions, the second camera and the arm's state, where a case has them."""
        inputs, found = self.case.inputs, dict[str, Tensor]()
        history = inputs.get("history_nactions", inputs.get("history_actions"))
        if self.made.get("use_history_action") and history is not None:
            found["history"] = history
        if self.made.get("use_proprioception"):
            umi = self.made["task_name"] == "umi"
            found["state"] = torch.cat([inputs[name] for name in (UMI if umi else ROBOMIMIC)], dim=-1)
            if not umi:
                found["image"] = self.places(inputs["second_image_z"])
        return found

    def _words(self) -> Tensor | None:
        if self.made.get("language_emb_model") != "clip":
            return None
        name = next((name for name in self.case.inputs if "text" in name or "lang" in name), "text_latents")
        return self.case.inputs[name]

    def mask(self) -> Tensor:
        """The places of each frame that are blank in training, the same in all."""
        orders, rate = self.case.inputs["orders"], self.case.meta["mask_rate"]
        num = math.ceil(orders.shape[1] * rate)
        place = torch.zeros_like(orders).scatter(1, orders[:, :num], 1).bool()
        return repeat(place, "b s -> b t s", t=FRAMES)

    def trained(self) -> dict[str, Tensor]:
        """The losses of all questions, and states on the way."""
        inputs, mask = self.case.inputs, self.mask()
        blank, frames = rearrange(mask, "b t s -> b (t s)"), self.places(inputs["video_latents"])
        found, nothing = {"train_mask": mask.to(torch.uint8)}, torch.tensor(0.0)
        for mode in MODES:
            if not any(name.endswith(mode) for name in self.case.outputs):
                continue
            whole = mode == "inverse_model"
            with Heard(self.slots) as heard:
                states = self.states(mode, frames, None if whole else blank)
            video = action = nothing
            if mode in ("video_model", "dynamic_model", "full_dynamic_model"):
                each = self._loss(self.video, frames, states, "video", self.video_process)
                video = (each * blank.flatten()).sum() / blank.sum()
                if self.wrist is not None:
                    wrist, own = self.places(inputs["pred_second_image_z"]), "wrist_t" in inputs
                    each = self._loss(self.wrist, wrist, states, "wrist" if own else "video", self.video_process)
                    video = video + (each * blank.flatten()).sum() / blank.sum()
            if mode in ("policy_model", "inverse_model", "full_dynamic_model"):
                assert self.action is not None
                told = self.action.gathered(states)
                action = self._loss(self.action, inputs["actions"], told, "action", self.process).mean()
                if mode == "policy_model":
                    found["tap_action_latents_policy"] = told
            found |= {f"loss_{mode}": video + action, f"loss_video_{mode}": video, f"loss_action_{mode}": action}
            found[f"tap_decoder_norm_{mode}"] = heard.decoder
            found[f"tap_encoder_norm_{mode.removesuffix('_model')}"] = heard.encoder
        return {name: value for name, value in found.items() if name in self.case.outputs}

    def _loss(self, head: TokenHeadFrame | None, clean: Tensor, told: Tensor, what: str, process: Process) -> Tensor:
        """The loss of each token, from its recorded step and noise."""
        assert head is not None
        given = self.case.inputs
        clean, told, noise, step = clean.flatten(0, 1), told.flatten(0, 1), given[f"{what}_noise"], given[f"{what}_t"]
        level = process.level(step)[:, None]
        shown = process.noised(clean, noise, level)
        answer, spread = head.answer(shown, step, told).chunk(2, dim=-1)
        return ((answer - noise) ** 2 + process.bound(shown, noise, answer, spread, level)).mean(dim=-1)

    def drawn(self) -> dict[str, Tensor]:
        """What is drawn for three of the questions."""
        given, outputs, found = self.case.inputs, self.case.outputs, dict[str, Tensor]()
        if "sample_policy" in outputs:
            states = self.states("policy_model", None, None)
            chunk, shown, answered = self._actions(states, given["act_x_T"], given["act_step_noise"])
            found |= {"sample_policy": chunk, "policy_sampler_net_in": shown, "policy_sampler_net_out": answered}
        if "sample_inverse" in outputs:
            states = self.states("inverse_model", self.places(given["video_latents"]), None)
            found["sample_inverse"] = self._actions(states, given["act_x_T"], given["act_step_noise"])[0]
        if "sample_full_dynamic_video" in outputs and self.wrist is None:
            found |= self._rounds()
        return {name: value for name, value in found.items() if name in outputs}

    def _actions(self, states: Tensor, start: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A chunk, and what entered and left the head at each step to it."""
        assert isinstance(self.action, ChunkHeadFrame)
        told, num = self.action.gathered(states), self.made.get("act_diff_testing_steps", "100")
        x, shown, answered = self._walk(self.action, told.flatten(0, 1), start, noise, int(num), self.process, clip=1.0)
        return x.reshape(*told.shape[:2], -1), shown, answered

    def _walk(
        self,
        head: TokenHeadFrame,
        told: Tensor,
        x: Tensor,
        noise: Tensor,
        num: int,
        process: Process,
        clip: float | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ancestral sampling of all tokens; what is drawn is made smaller by the temperature."""
        solver, shown, answered = Ddpm(process=process, steps=num, spacing="linspace", clip=clip), [], []
        visited = process.steps(num, "linspace")
        for index, (step, after) in enumerate(zip(visited, [*visited[1:], -1], strict=True)):
            shown.append(x)
            answered.append(head.answer(x, torch.full((len(x),), step), told))
            x, std = solver.around(x, answered[-1], step, after)
            x = x + self.case.meta["sampling"].get("temperature", 1.0) * std * noise[index]
        return x, torch.stack(shown), torch.stack(answered)

    def _rounds(self) -> dict[str, Tensor]:
        """A video and, in each round of it, a chunk; the last of these counts."""
        given, orders, num = self.case.inputs, self.case.inputs["orders"], self.case.meta["sampling"]["iterations"]
        batch, places = orders.shape
        blank = torch.ones(batch, FRAMES, places, dtype=torch.bool)
        tokens = torch.zeros(batch, FRAMES * places, self.made["vae_embed_dim"])
        action = torch.zeros(0)
        for index in range(num):
            states = self.states("full_dynamic_model", tokens, rearrange(blank, "b t s -> b (t s)"))
            noise = given[f"fulldyn_act_x_T_{index}"], given[f"fulldyn_act_step_noise_{index}"]
            action = self._actions(states, *noise)[0]
            left = math.floor(places * math.cos(math.pi / 2 * (index + 1) / num))
            left = max(1, min(int(blank[0, 0].sum()) - 1, left))
            after = torch.zeros(batch, places).scatter(1, orders[:, :left], 1.0).bool()
            after = repeat(after, "b s -> b t s", t=FRAMES)
            now = rearrange(blank if index + 1 == num else blank ^ after, "b t s -> b (t s)")
            blank = after
            assert self.video is not None
            noise = given[f"vid_x_T_{index}"], given[f"vid_step_noise_{index}"]
            steps = int(self.made.get("num_sampling_steps", "100"))
            tokens = tokens.clone()
            tokens[now] = self._walk(self.video, states[now], *noise, steps, self.video_process, clip=None)[0]
        maps = rearrange(tokens, "b (t h w) c -> (b t) c h w", t=FRAMES, h=self.side)
        return {"sample_full_dynamic_video": maps, "sample_full_dynamic_action": action}


class Heard:
    """What the two norms of the transformer leave meanwhile."""

    def __init__(self, slots: FusedSlotsFrame) -> None:
        self.slots = slots
        self.encoder, self.decoder = torch.zeros(0), torch.zeros(0)

    def __enter__(self) -> Heard:
        def encoder(_: object, __: object, out: Tensor) -> None:
            self.encoder = out

        def decoder(_: object, __: object, out: Tensor) -> None:
            self.decoder = out

        norms = ((self.slots.norm_encoder, encoder), (self.slots.norm, decoder))
        self.handles = [norm.register_forward_hook(hook) for norm, hook in norms]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def slots_of(case: GoldenCase, side: int) -> FusedSlots:
    """The specification of a recorded transformer."""
    made, weights = case.meta["constructor_arguments"], case.weights
    channels, actions = made["vae_embed_dim"], made["shape_meta"]["action"]["shape"][0]
    parts = [Fused(name="future", size=channels, blank="picture", ahead=True)]
    if made.get("predict_wrist_img"):
        parts.append(Fused(name="wrist", size=channels, blank="wrist", ahead=True))
    parts.append(Fused(name="seen", size=channels, blank="picture"))
    if made.get("use_history_action"):
        parts.append(Fused(name="history", size=actions, blank="history"))
    parts.append(Fused(name="action", size=actions, blank="action"))
    if made.get("use_proprioception"):
        if made["task_name"] != "umi":
            parts.append(Fused(name="image", size=channels))
        parts.append(Fused(name="state", size=weights["proprioception_proj_cond.weight"].shape[1]))
    language = made.get("language_emb_model")
    if language not in (None, "clip"):
        raise InputError(
            where=f"{made.where}.language_emb_model",
            expected="None or 'clip'",
            got=repr(language),
            do="crossroads has no other form of this network.",
        )
    eps = re.search(r"eps\s*=?\s*([0-9.e-]+)", str(case.meta.get("norm_layer", "")))
    return FusedSlots(
        width=channels,
        parts=tuple(parts),
        frames=FRAMES,
        places=side**2,
        **{
            f"{ours}_{what}": made[f"{ours}_{theirs}"]
            for ours in ("encoder", "decoder")
            for what, theirs in (("width", "embed_dim"), ("depth", "depth"), ("heads", "num_heads"))
        },
        context_width=weights["text_proj_cond.weight"].shape[1] if language else 0,
        words=weights["text_pos_embed"].shape[1] if language else 0,
        eps=float(eps[1]) if eps else 1e-5,
    )
