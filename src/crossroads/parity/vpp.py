"""VPP's networks as recorded from the released code (MIT): the tapped video UNet, the Video Former, the denoiser.

The recorded networks are fed with tensors instead of pictures and words; each is one of our towers and the ends of its
streams. The released decoder reads its encoder causally (``MdtDecoder.causal_reading``), and so do ours here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.state import StateCodec, StateToken
from crossroads.edm import Edm, EdmEuler
from crossroads.errors import InputError
from crossroads.noise import LogLogisticLevels, level_from_edm
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing
from crossroads.recipes.names import Renamed, imported
from crossroads.recipes.vpp_names import decoder_names, encoder_names, end_names, former_names
from crossroads.towers.forward import Told
from crossroads.towers.mdt import MdtDecoder, MdtEncoder
from crossroads.towers.spec import Context
from crossroads.towers.video_former import VideoFormer
from crossroads.towers.video_unet import PUBLISHED_GROUPS, VideoUNet

ATTENDING = "CrossAttn"


def load(module: nn.Module, names: tuple[Renamed, ...], published: Mapping[str, Tensor]) -> None:
    """Published tensors into a module, all of whose weights are named."""
    module.load_state_dict(imported(names, published))


def reject_unknown(case: GoldenCase, names: tuple[Renamed, ...], unused: tuple[str, ...] = ()) -> None:
    """Every published weight has a place, or is one that nothing reads."""
    known = {name for entry in names for name in entry.theirs}
    if homeless := sorted(name for name in case.weights if name not in known and not name.startswith(unused)):
        raise InputError(
            where=case.weights.where,
            expected="only tensors that have a place in our network",
            got=f"{len(homeless)} without one, such as {homeless[:3]}",
            do="Check that meta.json and weights.safetensors are of one case.",
        )


def stated(recorded: Named[Any], name: str, otherwise: Any) -> Any:
    """What a case says under a name, if it says anything."""
    return recorded[name] if name in recorded else otherwise  # noqa: SIM401 (its ``get`` would ask for the name)


def limit(case: GoldenCase, name: str, published: int) -> int:
    """A constant of the code that a recording has made smaller."""
    if "size_constants_replaced" not in case.meta or name not in case.meta["size_constants_replaced"]:
        return published
    return case.meta["size_constants_replaced"][name][1]


@torch.no_grad()
def run_tap(case: GoldenCase) -> Produced:
    """The video UNet, called once, with every block of its decoder."""
    spec = unet_of(case)
    frame = spec.frame().eval()
    frame.net.load_state_dict(dict(case.weights))
    given, at = case.inputs, case.meta["use_layer_idx"]
    timestep = given["timestep"].reshape(-1).expand(len(given["sample"]))
    heard = []
    for gathers in (True, False):
        frame.spec = replace(spec, gathers=gathers)
        heard.append(frame.answer(given["sample"], timestep, given["encoder_hidden_states"]))
    (answer, gathered), (_, single) = heard
    blocks = {f"tap_up_block_{index}": rearrange(tap, "b t c h w -> (b t) c h w") for index, tap in single.items()}
    found = {"unet_sample": answer, "feature_all_layers": gathered[at], "feature_single_layer": single[at], **blocks}
    return Produced(outputs=found)


def unet_of(case: GoldenCase) -> VideoUNet:
    """The specification of a recorded UNet."""
    made, given = case.meta["constructor_arguments"], case.inputs
    num = len(made["block_out_channels"])

    def each(name: str, otherwise: int) -> tuple[int, ...]:
        value = stated(made, name, otherwise)
        return (value,) * num if isinstance(value, int) else tuple(value)

    widths = set(each("cross_attention_dim", 1024))
    if len(widths) > 1:
        raise InputError(
            where=f"{made.where}.cross_attention_dim",
            expected="one width of words for all blocks",
            got=str(sorted(widths)),
            do="crossroads has no other form of this network.",
        )
    ids = tuple(given["added_time_ids"][0].tolist())
    if (given["added_time_ids"] != given["added_time_ids"][:1]).any():
        raise InputError(
            where="inputs.added_time_ids",
            expected="the same for all samples",
            got="several",
            do="crossroads fixes them in the tower.",
        )
    return VideoUNet(
        frames=given["sample"].shape[1],
        latent_hw=tuple(given["sample"].shape[-2:]),  # pyright: ignore[reportArgumentType]
        channels=made["out_channels"],
        beside=made["in_channels"] - made["out_channels"],
        block_channels=tuple(made["block_out_channels"]),
        heads=each("num_attention_heads", 5),
        context_width=widths.pop(),
        attends=tuple(ATTENDING in kind for kind in made["down_block_types"]),
        attends_up=tuple(ATTENDING in kind for kind in made["up_block_types"]),
        layers=each("layers_per_block", 2),
        transformer_layers=each("transformer_layers_per_block", 1),
        time_id_width=made["addition_time_embed_dim"],
        time_ids=ids,
        groups=limit(case, "GroupNorm groups (upper bound)", PUBLISHED_GROUPS),
    )


@torch.no_grad()
def run_former(case: GoldenCase) -> Produced:
    """The Video Former on recorded features."""
    made, given = case.meta["constructor_arguments"], case.inputs
    frames = made["num_frame"]
    spec = VideoFormer(
        width=made["dim"],
        depth=made["depth"],
        heads=made["heads"],
        head_dim=made["dim_head"],
        context_width=made["condition_dim"],
        frames=frames,
        per_frame=made["num_latents"] // frames,
        over_time=stated(made, "use_temporal", True),
        num_places=case.weights["time_pos_emb"].shape[0],
    )
    frame, names = spec.frame().eval(), former_names("frame", spec.depth, over_time=spec.over_time)
    reject_unknown(case, names, ("latents",))
    load(nn.ModuleDict({"frame": frame}), names, case.weights)
    features = given["x_f"]
    tokens = case.weights["latents"].expand(len(features), -1, -1, -1)
    beside = stated(given, "extra", None)
    first = frame.get_submodule("layers.0.read")
    with hearing(first) as read:
        out = frame.gathered(tokens, features, beside)
    return Produced(outputs={"out": out, "tap_layer0_perceiver_attention": read[0]})


class Denoiser:
    """Encoder, decoder and ends with recorded weights."""

    def __init__(self, case: GoldenCase) -> None:
        made, weights = case.meta["constructor_arguments"], case.weights
        width = weights["inner_model.action_emb.weight"].shape[0]
        depths = [_depth(weights, part) for part in ("encoder", "decoder")]
        heads = limit(case, "n_heads", 8)
        self.process = Edm(sigma_data=made["sigma_data"])
        self.encoder = MdtEncoder(
            width=width,
            depth=depths[0],
            heads=heads,
            context_width=made["obs_dim"],
            image_width=made["goal_dim"],
            num_seen=made["num_tokens"],
        ).frame()
        self.decoder = MdtDecoder(
            width=width, depth=depths[1], heads=heads, context_width=width, causal_reading=True, sigma_most=1e6
        ).frame()
        actions = ActionTokens(num_actions=made["act_seq_len"], action_size=made["action_dim"], control_hz=1.0)
        self.action = ActionCodec(actions, width)
        parts: dict[str, nn.Module] = {"encoder": self.encoder, "decoder": self.decoder, "action": self.action}
        proprio = "inner_model.proprio_emb.0.weight"
        self.state = None
        if proprio in weights:
            hidden, size = weights[proprio].shape
            self.state = StateCodec(StateToken(num_state=size, hidden=(hidden,), activation="mish"), width)
            parts["state"] = self.state
        names = encoder_names("encoder", depths[0]) + decoder_names("decoder", depths[1])
        names += end_names("action", "state" if self.state else None)
        reject_unknown(case, names, ("inner_model.pos_emb", "inner_model.goal_emb."))
        net = nn.ModuleDict(parts).eval()
        buffers = {name: value for name, value in net.state_dict().items() if "normaliser" in name}
        net.load_state_dict({**imported(names, weights), **buffers})

    def context(self, seen: Tensor, goal: Tensor, state: Tensor | None) -> Tensor:
        """The encoder's states: the goal, what was seen, the robot's state."""
        tokens = [self.encoder.read(goal, seen)]
        if self.state is not None and state is not None:
            tokens.append(self.state.enter(state))
        return self.encoder.encoded(torch.cat(tokens, dim=1))

    def answer(self, shown: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """The raw answer to actions as the network is shown them; ``sigma`` per sample."""
        valid = torch.ones(context.shape[:2], dtype=torch.bool)
        told = Told(level=level_from_edm(sigma.double())[:, None], contexts=(Context(hidden=context, valid=valid),))
        return self.action.read(self.decoder.enter(self.action.enter(shown), told))

    def denoised(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """``D(x, sigma)`` at the published state ``a + sigma e``."""
        level = level_from_edm(sigma.double())[:, None, None]
        shown = ((1 - level) / self.process.spread(level) * x).to(x.dtype)
        return self.process.clean(shown, self.answer(shown, sigma, context), level).to(x.dtype)


@torch.no_grad()
def run_denoiser(case: GoldenCase) -> Produced:
    """One denoising, the loss, the walks of three solvers, and who reads whom."""
    net, given = Denoiser(case), case.inputs
    state = stated(given, "state_obs", None)
    sigma, clean, noise = given["sigma"], given["clean_action"], given["noise"]
    context = net.context(given["state_images"], given["goal"], state)
    without = net.context(given["state_images"], torch.zeros_like(given["goal"]), state)
    level = level_from_edm(sigma.double())[:, None, None]
    shown = net.process.noised(clean.double(), noise.double(), level).float()
    answer = net.answer(shown, sigma, context)
    owed = net.process.owed(clean.double(), noise.double(), level)
    kept = net.process.sigma_data
    spread = torch.sqrt(sigma**2 + kept**2)
    return Produced(
        outputs={
            "tap_encoder_context": context,
            "denoised": net.denoised(given["noisy_action"], sigma, context),
            "uncond_denoised": net.denoised(given["noisy_action"], sigma, without),
            "loss": ((answer - owed) ** 2).mean().float(),
            "loss_model_output": answer,
            "c_skip": kept**2 / spread**2,
            "c_out": sigma * kept / spread,
            "c_in": 1 / spread,
            "sigma_from_uniform": LogLogisticLevels(log_mean=math.log(kept)).sigma(given["sigma_uniform"]).float(),
            "cross_attention_visible": _visible(net, shown, sigma, context),
            **_walked(case, net, context),
        }
    )


def _walked(case: GoldenCase, net: Denoiser, context: Tensor) -> dict[str, Tensor]:
    """DDIM by our solver; Euler, which is the same walk, and Heun in the published variables."""
    asked = case.meta["sampler"]
    low, high, num = asked["sigma_min"], asked["sigma_max"], asked["steps"]
    solver = EdmEuler(process=net.process, steps=num, low=low, high=high)
    start, steps = case.inputs["sampler_x_T"], []

    def answered(shown: Tensor, level: float) -> Tensor:
        sigma = shown.new_tensor(level, dtype=torch.float64) / (1 - level)
        scaled = shown.reshape(start.shape).double()
        found = net.answer(scaled.float(), sigma.expand(len(start)), context)
        exact = torch.tensor(level, dtype=torch.float64)
        steps.append(
            (scaled * torch.sqrt(sigma**2 + net.process.sigma_data**2), net.process.clean(scaled, found, exact))
        )
        return found.flatten(1)

    walked = solver.solve((start / high).flatten(1), answered).reshape(start.shape)
    karras = torch.linspace(high ** (1 / 7), low ** (1 / 7), num, dtype=torch.float64) ** 7  # k-diffusion's rho
    return {
        "sigmas_exponential": solver.sigmas().float(),
        "sigmas_karras": torch.cat([karras, torch.zeros(1)]).float(),
        "sample_ddim": walked,
        "sample_euler": walked,
        "sample_heun": _heun(net, start, solver.sigmas(), context),
        "ddim_step_input": torch.stack([x for x, _ in steps]).float(),
        "ddim_step_denoised": torch.stack([x for _, x in steps]).float(),
    }


def _heun(net: Denoiser, x: Tensor, sigmas: Tensor, context: Tensor) -> Tensor:
    """Karras et al. 2022, arXiv 2206.00364, algorithm 1, without fresh noise."""

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - net.denoised(x, sigma.expand(len(x)), context)) / sigma.float()

    for sigma, after in pairwise(sigmas):
        first, step = slope(x, sigma), (after - sigma).float()
        ahead = x + step * first
        x = x + step * (first + slope(ahead, after)) / 2 if after > 0 else ahead
    return x


def _visible(net: Denoiser, shown: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
    """Which of the encoder's states each action depends on, by gradient."""
    with torch.enable_grad():
        read = context.detach().requires_grad_()
        answer = net.answer(shown, sigma, read)
        rows = []
        for index in range(answer.shape[1]):
            (grad,) = torch.autograd.grad(answer[:, index].sum(), read, retain_graph=True)
            rows.append((grad != 0).any(dim=-1).any(dim=0))
    return torch.stack(rows).to(torch.uint8)


def _depth(weights: Mapping[str, Tensor], part: str) -> int:
    prefix = f"inner_model.{part}.blocks."
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix))
