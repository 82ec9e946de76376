"""UWM as recorded from the official class (no licence file: tensors only): one training step and five samplers.

A recorded vector stands for what the encoder of pictures and the words give. Each sampler is a schedule of the recipe;
noise that is held is told the first step that the solver visits, as published does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.image_autoencoder import ImageAutoencoder
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.stacked_latents import StackedCodec
from crossroads.diffusion import Answer, Ddim
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, embedded, hearing, interpreter, joint_of, load_published, mask_between
from crossroads.recipes.uwm import (
    FORWARD,
    INVERSE_DYNAMICS,
    JOINT,
    POLICY,
    VIDEO,
    token_groups,
    uwm_schedule,
    uwm_tokens,
)
from crossroads.recipes.uwm_names import uwm_names
from crossroads.recipes.uwm_sizes import PUBLISHED, UwmSize
from crossroads.schedule import Denoise
from crossroads.stage import Stage, Tower
from crossroads.streams import Stream, reads
from crossroads.towers.given import Given

SAMPLERS = {
    "forward_dynamics": FORWARD,
    "inverse_dynamics": INVERSE_DYNAMICS,
    "marginal_next_obs": VIDEO,
    "marginal_action": POLICY,
    "joint": JOINT,
}


@dataclass(frozen=True, kw_only=True)
class Watched(Ddim):
    """The same solver, of whose walk the states and answers are kept."""

    states: list[Tensor] = field(default_factory=list)
    answers: list[Tensor] = field(default_factory=list)

    def solve(
        self, x: Float[Tensor, "b m"], answer: Answer, generator: torch.Generator | None = None
    ) -> Float[Tensor, "b m"]:
        def watched(state: Tensor, level: float) -> Tensor:
            self.states.append(state)
            self.answers.append(answer(state, level))
            return self.answers[-1]

        return super().solve(x, watched, generator)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: UwmSize
    net: StreamNet

    @property
    def video(self) -> StackedCodec:
        codec = self.net.codec("video")
        assert isinstance(codec, StackedCodec)
        return codec

    def tokens(self, recorded: Float[Tensor, "b v c t h w"]) -> Latent:
        """Recorded latents of frames as our tokens."""
        return all_valid(self.video.patched(rearrange(recorded, "b v c t h w -> b v t h w c")))

    def frames(self, tokens: Float[Tensor, "b n size"]) -> Float[Tensor, "b v c t h w"]:
        """Our tokens in the recorded shape."""
        return rearrange(self.video.unpatched(tokens), "b v t h w c -> b v c t h w")

    def given(self) -> dict[str, Latent]:
        """What is seen, and the registers."""
        seen = self.case.inputs["obs_feature"]
        if not self.size.registers.num:
            return {"features": all_valid(seen[:, None])}
        registers = torch.zeros(len(seen), self.size.registers.num, 0)
        return {"features": all_valid(seen[:, None]), "registers": all_valid(registers)}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size = size_of(case)
    net = build_net(stage_of(size)).eval()
    load_published(net, uwm_names(size), case.weights)
    prepared = Prepared(case=case, size=size, net=net)
    return Produced(outputs={**trained(prepared), **sampled(prepared), **told(prepared)})


def size_of(case: GoldenCase) -> UwmSize:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor_arguments"]
    made.demand({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon", "clip_sample": True})
    _, views, channels, frames, rows, columns = case.inputs["next_obs_latent"].shape
    stacked, patch, across = made["latent_patch_shape"]
    if patch != across:
        raise InputError(
            where=f"{made.where}.latent_patch_shape",
            expected="square patches",
            got=f"{patch} x {across}",
            do="crossroads has no other form of this network.",
        )
    width, num_actions, waves = made["embed_dim"], made["action_len"], made["timestep_embed_dim"]
    video = replace(
        PUBLISHED.video,
        cameras=tuple(f"view {view}" for view in range(views)),
        image_hw=(8 * rows, 8 * columns),
        future_s=tuple(float(1 + frame) for frame in range(frames)),
        autoencoder=ImageAutoencoder(source="none", channels=channels),
        patch=patch,
        stacked=stacked,
        first_place=num_actions,
    )
    before = num_actions + video.num_tokens("noised")
    hidden = case.weights["noise_pred_net.action_encoder.0.weight"].shape[0]
    return replace(
        PUBLISHED,
        video=video,
        action=replace(PUBLISHED.action, num_actions=num_actions, action_size=made["action_dim"], hidden=(hidden,)),
        registers=replace(PUBLISHED.registers, num=made["num_registers"], first_place=before),
        tower=replace(
            PUBLISHED.tower,
            width=width,
            mlp=case.weights["noise_pred_net.blocks.0.mlp.fc1.weight"].shape[0],
            depth=made["depth"],
            heads=made["num_heads"],
            num_steps=made["num_train_steps"],
            level_sizes=(waves, case.weights["noise_pred_net.timestep_embedding.proj.0.weight"].shape[0], waves),
            num_places=before + made["num_registers"],
            context_width=case.inputs["obs_feature"].shape[1],
            num_seen=1,
            worded=False,
        ),
        process=replace(PUBLISHED.process, num_steps=made["num_train_steps"]),
        denoising_steps=made["num_inference_steps"],
    )


def stage_of(size: UwmSize) -> Stage:
    """The recipe's transformer on a vector that is given."""
    width, num = size.tower.context_width, size.tower.num_seen
    features, tokens = TextFeatures(source="recorded", width=width, max_tokens=num), token_groups(size)
    return Stage(
        name="model",
        streams=(Stream(name="features", carries="image", codec=features, tower="given"), *uwm_tokens(size)),
        edges=(
            *(edge for group in tokens for edge in reads(group, *tokens)),
            *(edge for group in tokens for edge in reads(group, "features", via="cross")),
        ),
        towers=(Tower(name="given", spec=Given(width=width)), Tower(name="model", spec=size.tower)),
        schedule=uwm_schedule(size, POLICY),
    )


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step; a sample without actions is shown noise at the last step, and compared."""
    net, given, process = prepared.net, prepared.case.inputs, prepared.size.process
    step = torch.where(given["action_mask"], given["action_t"], process.num_steps - 1)
    level = {"action": process.level(step), "video": process.level(given["next_obs_t"])}
    noisy_action = process.noised(given["action"], given["action_noise"], level["action"][:, None, None])
    spread = rearrange(level["video"], "b -> b 1 1 1 1 1")
    noisy_frames = process.noised(given["next_obs_latent"], given["next_obs_noise"], spread)
    latents = {**prepared.given(), "action": all_valid(noisy_action), "video": prepared.tokens(noisy_frames)}
    levels = {name: found[:, None] for name, found in level.items()}
    inputs = embedded(net, latents, levels, latents)
    model = joint_of(net, "model")
    with hearing(model.layers[0]) as first, hearing(model.get_submodule("frames.model.level_out")) as heard:
        states = net(inputs, {})
    answer = net.codec("action").read(states["action"].hidden)
    frames = prepared.frames(net.codec("video").read(states["video"].hidden))
    losses = [((answer - given["action_noise"]) ** 2).mean(), ((frames - given["next_obs_noise"]) ** 2).mean()]
    lengths = {name: inputs[name].tokens.shape[1] for name in sorted(token_groups(prepared.size))}
    out = dict(zip(lengths, first[0][0]["model"].split(list(lengths.values()), dim=1), strict=True))
    return {
        "loss": losses[0] + losses[1],
        "action_loss": losses[0],
        "dynamics_loss": losses[1],
        "train_action_noise_pred": answer,
        "train_next_obs_noise_pred": frames,
        "noisy_action": noisy_action,
        "action_t_used": step,
        "noisy_next_obs": noisy_frames,
        "tap_block0_out": torch.cat([out[name] for name in token_groups(prepared.size)], dim=1),
        "tap_time_embedding": heard[0][:, 0],
    }


@torch.no_grad()
def sampled(prepared: Prepared) -> dict[str, Tensor]:
    """Five questions, each from the same noise."""
    given, size, outputs = prepared.case.inputs, prepared.size, dict[str, Tensor]()
    noise = {
        "action": all_valid(given["sampler_action_noise"]),
        "video": prepared.tokens(given["sampler_next_obs_noise"]),
    }
    clean = {"action": given["action"], "video": prepared.tokens(given["next_obs_latent"]).values}
    for name, question in SAMPLERS.items():
        started = interpreter(prepared.net, prepared.given(), noise)
        started.known = {stream: clean[stream] for leg in question.legs[:-1] for stream in leg}
        watched = [Watched(**vars(leg.solver)) for leg in uwm_schedule(size, question)]
        held = {"action", "video"} - {stream for leg in question.legs for stream in leg}
        started.levels |= dict.fromkeys(held, watched[0].levels()[0].item())
        legs = tuple(Denoise(streams=leg, solver=solver) for leg, solver in zip(question.legs, watched, strict=True))
        settled = started.run(legs).streams
        outputs |= _answers(prepared, name, question.legs[-1], settled, watched[-1])
    return outputs


def _answers(
    prepared: Prepared, name: str, asked: tuple[str, ...], settled: Mapping[str, Tensor], walk: Watched
) -> dict[str, Tensor]:
    """A sample and the steps to it, under the recorded names; of the joint sampler the action's steps alone."""
    found, start = dict[str, Tensor](), 0
    for stream in sorted(asked):
        shape = settled[stream].shape
        part, theirs = slice(start, start + shape[1:].numel()), {"action": "action", "video": "next_obs"}[stream]
        start = part.stop

        def shown(x: Tensor, stream: str = stream, shape: torch.Size = shape) -> Tensor:
            return x.reshape(shape) if stream == "action" else prepared.frames(x.reshape(shape))

        alone = len(asked) == 1
        found[f"sample_{name}" + ("" if alone else f"_{theirs}")] = shown(settled[stream])
        if alone or stream == "action":
            label = f"steps_{name}" + ("" if alone else f"_{theirs}")
            found[f"{label}_net_in"] = torch.stack([shown(x[:, part]) for x in walk.states])
            found[f"{label}_net_out"] = torch.stack([shown(x[:, part]) for x in walk.answers])
    return found


def told(prepared: Prepared) -> dict[str, Tensor]:
    """What the solver visits, what the process keeps, and who reads whom."""
    size = prepared.size
    solver = uwm_schedule(size, POLICY)[0].solver
    assert isinstance(solver, Ddim)
    counts = {stream.name: stream.codec.num_tokens(stream.views[0].kind) for stream in uwm_tokens(size)}
    order = [(name, index) for name in token_groups(size) for index in range(counts[name])]
    layout = stage_of(size).layout
    return {
        "sampler_timesteps": torch.tensor(size.process.steps(solver.steps, solver.spacing)),
        "alphas_cumprod": size.process.kept().float(),
        "attention_visible": mask_between(layout, counts, order).to(torch.uint8),
    }
