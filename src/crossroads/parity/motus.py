"""Motus as recorded from its published functions (arXiv 2512.13030; thu-ml/Motus), which were transcribed by hand.

A case holds one training step with every draw replaced by a saved tensor (``train.*``), two passes with one modality
clean (``mode_*``) and a joint run from saved noise (``infer.*``). Recorded latents stand for the video autoencoder,
recorded features for the frozen vision-language model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.learned import LearnedTokens
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.scene import QwenVision, SceneFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.noise import corrupt, grid, level_from_timestep, velocity
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, by_group, embedded, hearing, interpreter, joint_of, load_published
from crossroads.recipe import Recipe
from crossroads.recipes.motus import motus
from crossroads.recipes.motus_names import motus_names
from crossroads.recipes.motus_sizes import PUBLISHED, MotusSize
from crossroads.streams import Corrupted
from crossroads.towers.given import Given
from crossroads.towers.group import GroupState
from crossroads.towers.motus import MotusExpert
from crossroads.towers.wan import Wan

ONE_FORM = {"model_type": "ti2v", "cross_attn_norm": True, "qk_norm": True}
COMPUTED = frozenset({"action_expert.input_encoder.pos_embedding"})
"""A table of sinusoids."""
SEQUENCE = ("state", "action", "registers")
"""The published order of the action expert."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: MotusSize
    recipe: Recipe
    net: StreamNet

    def tokens(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c2"]:
        """Latent video, channels first, as our codec holds it."""
        p = self.size.video.patch
        return rearrange(video, "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)

    def picture(self, tokens: Float[Tensor, "b n c2"]) -> Float[Tensor, "b c t h w"]:
        """The way back."""
        (rows, columns), p = self.size.video.grid_hw, self.size.video.patch
        return rearrange(tokens, "b (t h w) (p q c) -> b c t (h p) (w q)", h=rows, w=columns, p=p, q=p)

    def clip(self, answers: dict[str, Tensor]) -> Float[Tensor, "b c t h w"]:
        """The frame of now and the future, as one clip."""
        return self.picture(torch.cat([answers["video.now"], answers["video"]], dim=1))


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    return Produced(outputs={**trained(prepared), **asked(prepared), **acted(prepared)})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights."""
    size = size_of(case)
    recipe = motus(size)
    recipe.validate()
    net = build_net(recipe.stage).eval()
    load_published(net, motus_names(size, video="wan_model."), case.weights, unused=COMPUTED)
    return Prepared(case=case, size=size, recipe=recipe, net=net)


def size_of(case: GoldenCase) -> MotusSize:
    """The published size with the numbers of a recorded case."""
    made, given = case.meta["constructor"], case.inputs
    wan, action, und = made["wan"], made["action"], made["und"]
    patch, head = wan["patch_size"][1], wan["dim"] // wan["num_heads"]
    wan.demand({**ONE_FORM, "patch_size": [1, patch, patch], "out_dim": wan["in_dim"]})
    _, channels, num_latents, rows, columns = given["video_latents"].shape
    num_actions, action_size = given["actions"].shape[1:]
    scale, side = replace(WanAutoencoder(source="recorded"), channels=channels), head // 6 * 2
    image_hw = (rows * scale.space_factor, columns * scale.space_factor)
    geometry = {"depth": wan["num_layers"], "heads": wan["num_heads"], "head_dim": head}
    wide, narrow = (action["dim"],) * 2, (und["dim"],) * 2
    words = given["vlm_features"].shape[1]
    seer = QwenVision(source="recorded", width=und["vlm_input_dim"])
    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=wan["text_dim"], max_tokens=given["text"].shape[1]),
        text_tower=Given(width=wan["text_dim"]),
        video=VideoLatents(
            cameras=("front",),
            image_hw=image_hw,
            future_s=tuple(float(step) for step in range(1, 1 + TIME_FACTOR * (num_latents - 1))),
            autoencoder=scale,
            patch=patch,
        ),
        video_tower=Wan(
            width=wan["dim"],
            mlp=wan["ffn_dim"],
            **geometry,
            rotary=(head - 2 * side, side, side),
            frequency_width=wan["freq_dim"],
            context_width=wan["text_dim"],
            eps=wan["eps"],
        ),
        image=SceneFeatures(
            model=seer,
            cameras=("front",),
            image_hw=image_hw,
            max_words=words - seer.num_pictured(image_hw),  # as many tokens as were recorded, whatever they were
            hidden=narrow,
        ),
        language=MotusExpert(width=und["dim"], mlp=und["ffn_dim"], **geometry, acts=False, eps=und["eps"]),
        state=replace(PUBLISHED.state, num_state=given["state"].shape[1], hidden=wide),
        action=replace(PUBLISHED.action, num_actions=num_actions, action_size=action_size, hidden=wide),
        registers=LearnedTokens(num=action["num_registers"], first_place=1 + num_actions),
        expert=MotusExpert(width=action["dim"], mlp=action["ffn_dim"], **geometry, acts=True, eps=action["eps"]),
        denoising_steps=int(given["infer.num_steps"].item()),
    )


def shown(prepared: Prepared, level: dict[str, Tensor]) -> tuple[dict[str, Latent], dict[str, Corrupted]]:
    """The training inputs at some levels, and what each flow owes."""
    given = prepared.case.inputs
    clean, noise = (prepared.tokens(given[name][:, :, 1:]) for name in ("video_latents", "noise_video"))
    pairs = {"video": (clean, noise), "action": (given["actions"], given["noise_action"])}
    owed = {
        name: Corrupted(
            latent=corrupt(*pair, level[name].float()[:, None, None]),
            level=level[name][:, None],
            target=velocity(*pair),
        )
        for name, pair in pairs.items()
    }
    observed = {
        "text": given["text"],
        "image": given["vlm_features"],
        "video.now": prepared.tokens(given["video_latents"][:, :, :1]),
        "state": given["state"][:, None],
        "registers": torch.zeros(len(given["state"]), prepared.size.registers.num, 0),
    }
    latents = {**observed, **{name: corrupted.latent for name, corrupted in owed.items()}}
    return {name: all_valid(values) for name, values in latents.items()}, owed


def levels_of(prepared: Prepared) -> dict[str, Tensor]:
    """The recorded levels, in float64, as timesteps reach 1000."""
    return {name: level_from_timestep(prepared.case.inputs[f"timestep_{name}"]) for name in ("video", "action")}


def passed(prepared: Prepared, level: dict[str, Tensor]) -> tuple[dict[str, GroupState], dict[str, Tensor]]:
    """One pass at some levels: what every group left, and the first layer's tokens by group."""
    net, (latents, _) = prepared.net, shown(prepared, level)
    inputs = embedded(net, latents, {name: values[:, None] for name, values in level.items()}, latents)
    with hearing(joint_of(net, "video").layers[0]) as heard:
        states = net(inputs, {})
    found = [by_group(net, inputs, tower, x) for tower, x in heard[0][0].items()]
    return states, {name: part for groups in found for name, part in groups.items()}


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The recorded outputs of the training step; heads read what nobody asks for as well."""
    net, level = prepared.net, levels_of(prepared)
    latents, owed = shown(prepared, level)
    states, block = passed(prepared, level)
    answers = {name: net.codec(name).read(states[name].hidden) for name in ("video.now", "video", "action")}
    flows = {"video": prepared.size.video_flow, "action": prepared.size.action_flow}
    losses = {name: flow.loss(answers[name], owed[name], latents[name].valid).mean() for name, flow in flows.items()}
    num = prepared.case.inputs["video_latents"].shape[2]
    velocity_video = prepared.clip(answers)
    return {
        "train.noisy_video": prepared.clip({name: latents[name].values for name in ("video.now", "video")}),
        "train.velocity_video": velocity_video,
        "train.velocity_action": answers["action"],
        "train.decoder_all_tokens": torch.cat(
            [net.codec("action").read(states[name].hidden) for name in SEQUENCE], dim=1
        ),
        "train.block0_video": torch.cat([block["video.now"], block["video"]], dim=1),
        "train.block0_action": torch.cat([block[name] for name in SEQUENCE], dim=1),
        "train.block0_und": block["image"],
        "train.loss_video": losses["video"][None] * (num - 1) / num,  # published counts the frame of now as right
        "train.loss_action": losses["action"][None],
    }


@torch.no_grad()
def asked(prepared: Prepared) -> dict[str, Tensor]:
    """Inverse dynamics: the video is clean. World model: the actions are. The rest stays at the recorded level."""
    net, level = prepared.net, levels_of(prepared)
    zero = torch.zeros_like(level["video"])
    inverse, _ = passed(prepared, {**level, "video": zero})
    world, _ = passed(prepared, {**level, "action": zero})
    clip = {name: net.codec(name).read(world[name].hidden) for name in ("video.now", "video")}
    return {
        "mode_idm.velocity_action": net.codec("action").read(inverse["action"].hidden),
        "mode_world_model.velocity_video": prepared.clip(clip),
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """The recipe's own schedule from the recorded noise; the first sample is observed."""
    net, given = prepared.net, prepared.case.inputs
    latents, _ = shown(prepared, levels_of(prepared))
    num = len(given["infer.noise_action"])
    observed = {name: all_valid(latents[name].values[:num]) for name in ("text", "image", "state", "registers")}
    observed["video.now"] = all_valid(prepared.tokens(given["infer.first_frame_latent"]))
    noise = {
        "action": all_valid(given["infer.noise_action"]),
        "video": all_valid(prepared.tokens(given["infer.noise_video"][:, :, 1:])),
    }
    with hearing(net.get_submodule("codecs.action.leave")) as heard:
        settled = interpreter(net, observed, noise).run(prepared.recipe.stage.schedule).streams
    steps = grid(prepared.size.denoising_steps).diff()
    walk = torch.stack([step * v for step, v in zip(steps, heard, strict=True)]).cumsum(dim=0)
    return {
        "infer.action_trajectory": given["infer.noise_action"] + walk,
        "infer.video_latent": prepared.clip({"video.now": observed["video.now"].values, "video": settled["video"]}),
    }
