"""Fast-WAM and its two imagining forms as recorded from the official code (arXiv 2603.16666; MIT).

A case holds one training step with every random draw replaced by a saved tensor (``train.*``) and one run of the robot
from saved noise (``infer.*``). Recorded latents stand for the video autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.latents import VideoLatents
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.spec import Latent
from crossroads.codecs.state import StateToken
from crossroads.codecs.video_autoencoder import TIME_FACTOR
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.net import StreamNet
from crossroads.noise import (
    TIMESTEPS,
    BellWeight,
    UniformLevels,
    corrupt,
    grid,
    level_from_timestep,
    velocity,
)
from crossroads.objectives import Flow
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import (
    all_valid,
    by_group,
    embedded,
    hearing,
    interpreter,
    joint_of,
    load_published,
    mask_between,
)
from crossroads.recipe import Recipe
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.fast_wam_sizes import PUBLISHED, FastWamSize
from crossroads.recipes.names import fast_wam_names
from crossroads.streams import Corrupted
from crossroads.towers.given import Given
from crossroads.towers.wan import Wan

FORMS: Mapping[str, Callable[[FastWamSize], Recipe]] = {
    "fast_wam": fast_wam,
    "fast_wam_idm": fast_wam_idm,
    "fast_wam_joint": fast_wam_joint,
}
ONE_FORM = {
    "has_image_input": False,
    "seperated_timestep": True,
    "fuse_vae_embedding_in_latents": True,
    "video_attention_mask_mode": "first_frame_causal",
}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: FastWamSize
    recipe: Recipe
    net: StreamNet

    @property
    def clips(self) -> tuple[tuple[str, ...], ...]:
        """The copies of the clip that the published network reads, each as our groups in order of time."""
        copies = (("video.now", "video"), ("video.now", "video.clean"))
        return copies if "video.clean" in self.net.layout.groups else copies[:1]

    @property
    def num_tokens(self) -> dict[str, int]:
        """Tokens of the groups that the recorded mask is about."""
        groups = {name: self.net.group(name) for copy in self.clips for name in copy}
        num = {name: group.stream.codec.num_tokens(group.view.kind) for name, group in groups.items()}
        return num | {"action": self.size.action.num_actions}

    def tokens(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c2"]:
        """Latent video, channels first, as our codec holds it."""
        p = self.size.video.patch
        return rearrange(video, "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)

    def picture(self, tokens: Float[Tensor, "b n c2"]) -> Float[Tensor, "b c t h w"]:
        """The way back."""
        (rows, columns), p = self.size.video.grid_hw, self.size.video.patch
        return rearrange(tokens, "b (t h w) (p q c) -> b c t (h p) (w q)", h=rows, w=columns, p=p, q=p)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records: the training step, acting from the recorded noise, and the mask."""
    prepared = prepare(case)
    return Produced(outputs={**trained(prepared), **acted(prepared), "train.attention_mask": mask_of(prepared)})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights."""
    size = size_of(case)
    recipe = FORMS[case.system](size)
    net = build_net(recipe.stage).eval()
    load_published(net, fast_wam_names(size), case.weights)
    return Prepared(case=case, size=size, recipe=recipe, net=net)


def size_of(case: GoldenCase) -> FastWamSize:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor"]
    wam, video, action = made["wam"], made["video_expert"], made["action_expert"]
    patch = video["patch_size"][1]
    video.demand({**ONE_FORM, "patch_size": [1, patch, patch]})
    _, channels, num_latents, rows, columns = case.inputs["video_latents"].shape
    scale = PUBLISHED.video.autoencoder
    assert isinstance(scale, WanAutoencoder)
    head = video["attn_head_dim"]
    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=wam["text_dim"], max_tokens=case.inputs["context"].shape[1]),
        text_tower=Given(width=wam["text_dim"]),
        video=VideoLatents(
            cameras=("front",),
            image_hw=(rows * scale.space_factor, columns * scale.space_factor),
            future_s=tuple(0.2 * step for step in range(1, 1 + TIME_FACTOR * (num_latents - 1))),
            autoencoder=replace(scale, channels=channels),
            patch=patch,
        ),
        video_tower=_wan(video, (head - 2 * (head // 3), head // 3, head // 3), modulated_head=True),
        state=StateToken(num_state=wam["proprio_dim"]),
        action=ActionTokens(
            num_actions=case.inputs["actions"].shape[1], action_size=action["action_dim"], control_hz=20.0
        ),
        expert=_wan(action, (action["attn_head_dim"],), modulated_head=False),
        video_flow=_flow(wam["video_train_shift"]),
        video_shift=wam["video_infer_shift"],
        action_flow=_flow(wam["action_train_shift"]),
        action_shift=wam["action_infer_shift"],
        denoising_steps=int(case.inputs["infer.num_steps"].item()),
    )


def _wan(spec: Named[int], rotary: tuple[int, ...], *, modulated_head: bool) -> Wan:
    return Wan(
        width=spec["hidden_dim"],
        mlp=spec["ffn_dim"],
        depth=spec["num_layers"],
        heads=spec["num_heads"],
        head_dim=spec["attn_head_dim"],
        rotary=rotary,
        frequency_width=spec["freq_dim"],
        context_width=spec["text_dim"],
        modulated_head=modulated_head,
        eps=spec["eps"],
    )


def _flow(shift: float) -> Flow:
    return Flow(levels=UniformLevels(factor=shift), level_weight=BellWeight(factor=shift))


def _shown(prepared: Prepared) -> tuple[dict[str, Latent], dict[str, Tensor], dict[str, Corrupted]]:
    """The training inputs: latents, levels (kept in float64, as timesteps reach 1000), and what each flow owes."""
    given = prepared.case.inputs
    clean, noise = (prepared.tokens(given[name][:, :, 1:]) for name in ("video_latents", "noise_video"))
    level = {name: level_from_timestep(given[f"timestep_{name}"]) for name in ("video", "action")}
    pairs = {"video": (clean, noise), "action": (given["actions"], given["noise_action"])}
    owed = {
        name: Corrupted(
            latent=corrupt(*pair, level[name].float()[:, None, None]),
            level=level[name][:, None],
            target=velocity(*pair),
        )
        for name, pair in pairs.items()
    }
    latents = {
        "text": Latent(values=given["context"], valid=given["context_mask"].bool()),
        "state": all_valid(given["proprio"][:, None]),
        "video.now": all_valid(prepared.tokens(given["video_latents"][:, :, :1])),
        **{name: all_valid(corrupted.latent) for name, corrupted in owed.items()},
    }
    if "video.clean" in prepared.net.layout.groups:
        noised = given["cond_noise_uniform"] < 0.5  # half of the conditions are noised: FastWAMIDM.training_loss
        level["video.clean"] = level_from_timestep(given["timestep_video_cond_sampled"]) * noised
        other = prepared.tokens(given["noise_video_cond"][:, :, 1:])
        latents["video.clean"] = all_valid(corrupt(clean, other, level["video.clean"].float()[:, None, None]))
    return latents, {name: values[:, None] for name, values in level.items()}, owed


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The recorded outputs of the training step, but for the mask."""
    net, (latents, levels, owed) = prepared.net, _shown(prepared)
    inputs = embedded(net, latents, levels, latents)
    with hearing(joint_of(net, "video").layers[0]) as heard:
        states = net(inputs, {})
    x = heard[0][0]
    block = by_group(net, inputs, "video", x["video"])
    answers = {name: net.codec(name).read(states[name].hidden) for name in (*prepared.clips[0], "action")}
    clip = [name for copy in prepared.clips for name in copy]
    flows = {"video": prepared.size.video_flow, "action": prepared.size.action_flow}
    losses = {name: flow.loss(answers[name], owed[name], latents[name].valid).mean() for name, flow in flows.items()}
    return {
        "train.velocity_video": prepared.picture(torch.cat([answers[name] for name in prepared.clips[0]], dim=1)),
        "train.velocity_action": answers["action"],
        "train.tokens_video_in": torch.cat([inputs[name].tokens for name in clip], dim=1),
        "train.tokens_action_in": inputs["action"].tokens,
        "train.block0_video": torch.cat([block[name] for name in clip], dim=1),
        "train.block0_action": x["expert"],
        "train.loss_video": losses["video"][None],
        "train.loss_action": losses["action"][None],
        "train.loss_total": (losses["video"] + losses["action"])[None],
        **{f"train.weight_{name}": flow.level_weight.at(owed[name].level)[:, 0] for name, flow in flows.items()},
    }


@torch.no_grad()
def acted(prepared: Prepared) -> dict[str, Tensor]:
    """The recorded outputs of acting: the recipe's own schedule from the recorded noise."""
    net, given, size = prepared.net, prepared.case.inputs, prepared.size
    observed = {
        "text": Latent(values=given["infer.context"], valid=given["infer.context_mask"].bool()),
        "state": all_valid(given["infer.proprio"][:, None]),
        "video.now": all_valid(prepared.tokens(given["infer.first_frame_latent"])),
    }
    noise = {"action": all_valid(given["infer.noise_action"])}
    if "infer.noise_video" in given:
        noise["video"] = all_valid(prepared.tokens(given["infer.noise_video"][:, :, 1:]))
    with hearing(net.get_submodule("codecs.action.leave")) as heard:
        settled = interpreter(net, observed, noise).run(prepared.recipe.stage.schedule).streams
    levels = grid(size.denoising_steps, factor=size.action_shift)
    steps = levels.diff()
    walk = torch.stack([step * v for step, v in zip(steps, heard, strict=True)]).cumsum(dim=0)
    found = {
        "infer.action": settled["action"][0],
        "infer.action_trajectory": (given["infer.noise_action"] + walk)[:, 0],
        "infer.timesteps": levels[:-1] * TIMESTEPS,
        "infer.deltas": steps,
    }
    if "infer.video_latent" in prepared.case.outputs:  # of the form that imagines first; the joint one keeps its own
        clip = torch.cat([observed["video.now"].values, settled["video"]], dim=1)
        found["infer.video_latent"] = prepared.picture(clip)
    return found


def mask_of(prepared: Prepared) -> Bool[Tensor, "q k"]:
    """Who reads whom in the published sequence, which holds the frame of now once in each copy of the clip.

    We hold it once. In the published sequence a token reads the frame of now in its own copy; an action stands in the
    copy whose future it reads.
    """
    layout, num = prepared.net.layout, prepared.num_tokens
    read = {edge.src for edge in layout.edges if edge.dst == "action"}
    home = next((index for index, copy in enumerate(prepared.clips) if copy[-1] in read), 0)
    sequence = [
        (copy, name, number)
        for copy, names in (*enumerate(prepared.clips), (home, ("action",)))
        for name in names
        for number in range(num[name])
    ]
    seen = mask_between(layout, num, [token[1:] for token in sequence])
    copies = torch.tensor([copy for copy, _, _ in sequence])
    now = torch.tensor([name == "video.now" for _, name, _ in sequence])
    return seen & ~(now[None, :] & (copies[None, :] != copies[:, None]))
