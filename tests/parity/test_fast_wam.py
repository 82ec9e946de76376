"""Fast-WAM and its two imagining forms against the published code, from the published weights and recorded noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
import torch
from einops import rearrange
from published_case import Heard, all_valid, embedded, interpreter, mask_between
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
from crossroads.noise import BellWeight, UniformLevels, corrupt, grid, velocity
from crossroads.objectives import Flow
from crossroads.recipe import Recipe
from crossroads.recipes.fast_wam import fast_wam, fast_wam_idm, fast_wam_joint
from crossroads.recipes.fast_wam_sizes import PUBLISHED, FastWamSize
from crossroads.recipes.names import exported, fast_wam_names, imported, load_weights
from crossroads.streams import Corrupted
from crossroads.towers.given import Given
from crossroads.towers.joint import Joint
from crossroads.towers.wan import Wan
from golden import GoldenCase, golden_cases, load_golden

pytestmark = pytest.mark.golden
FORMS: Mapping[str, Callable[[FastWamSize], Recipe]] = {
    "fast_wam": fast_wam,
    "fast_wam_idm": fast_wam_idm,
    "fast_wam_joint": fast_wam_joint,
}
CASES = [(form, case) for form in FORMS for case in golden_cases(form)]


def size_of(case: GoldenCase) -> FastWamSize:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor"]
    wam, patch = made["wam"], made["video_expert"]["patch_size"][1]
    _, channels, num_latents, rows, columns = case.inputs["video_latents"].shape
    scale = PUBLISHED.video.autoencoder

    def wan(spec: Mapping[str, int], rotary: tuple[int, ...], *, modulated_head: bool) -> Wan:
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

    def flow(shift: float) -> Flow:
        return Flow(levels=UniformLevels(factor=shift), level_weight=BellWeight(factor=shift))

    assert isinstance(scale, WanAutoencoder)
    head = made["video_expert"]["attn_head_dim"]
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
        video_tower=wan(made["video_expert"], (head - 2 * (head // 3), head // 3, head // 3), modulated_head=True),
        state=StateToken(num_state=wam["proprio_dim"]),
        action=ActionTokens(
            num_actions=case.inputs["actions"].shape[1],
            action_size=made["action_expert"]["action_dim"],
            control_hz=20.0,
        ),
        expert=wan(made["action_expert"], (made["action_expert"]["attn_head_dim"],), modulated_head=False),
        video_flow=flow(wam["video_train_shift"]),
        video_shift=wam["video_infer_shift"],
        action_flow=flow(wam["action_train_shift"]),
        action_shift=wam["action_infer_shift"],
        denoising_steps=int(case.inputs["infer.num_steps"].item()),
    )


@dataclass(frozen=True, kw_only=True)
class Published:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: FastWamSize
    recipe: Recipe
    net: StreamNet

    def tokens(self, video: Tensor) -> Tensor:
        """Latent video, channels first, as our codec holds it."""
        p = self.size.video.patch
        return rearrange(video, "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)

    def picture(self, tokens: Tensor) -> Tensor:
        """The way back."""
        (rows, columns), p = self.size.video.grid_hw, self.size.video.patch
        return rearrange(tokens, "b (t h w) (p q c) -> b c t (h p) (w q)", h=rows, w=columns, p=p, q=p)

    @property
    def clips(self) -> tuple[tuple[str, ...], ...]:
        """The copies of the clip that the published network reads, each as our groups in order of time."""
        copies = (("video.now", "video"), ("video.now", "video.clean"))
        return copies if "video.clean" in self.net.layout.groups else copies[:1]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def published(request: pytest.FixtureRequest) -> Published:
    case = load_golden(*request.param)
    size = size_of(case)
    recipe = FORMS[request.param[0]](size)
    net = build_net(recipe.stage).eval()
    load_weights(net, imported(fast_wam_names(size), case.weights))
    return Published(case=case, size=size, recipe=recipe, net=net)


def shown(published: Published) -> tuple[dict[str, Latent], dict[str, Tensor], dict[str, Corrupted]]:
    """The training inputs: latents, levels (kept in float64, as timesteps reach 1000), and what each flow owes."""
    given = published.case.inputs
    clean, noise = (published.tokens(given[name][:, :, 1:]) for name in ("video_latents", "noise_video"))
    level = {name: given[f"timestep_{name}"].double() / 1000 for name in ("video", "action")}
    pairs = {"video": (clean, noise), "action": (given["actions"], given["noise_action"])}
    owed = {
        name: Corrupted(
            latent=corrupt(*pair, level[name].float()[:, None, None]), level=level[name], target=velocity(*pair)
        )
        for name, pair in pairs.items()
    }
    latents = {
        "text": Latent(values=given["context"], valid=given["context_mask"].bool()),
        "state": all_valid(given["proprio"][:, None]),
        "video.now": all_valid(published.tokens(given["video_latents"][:, :, :1])),
        **{name: all_valid(corrupted.latent) for name, corrupted in owed.items()},
    }
    if "video.clean" in published.net.layout.groups:
        noised = given["cond_noise_uniform"] < 0.5
        level["video.clean"] = given["timestep_video_cond_sampled"].double() / 1000 * noised
        other = published.tokens(given["noise_video_cond"][:, :, 1:])
        latents["video.clean"] = all_valid(corrupt(clean, other, level["video.clean"].float()[:, None, None]))
    return latents, {name: values[:, None] for name, values in level.items()}, owed


@torch.no_grad()
def trained(published: Published) -> dict[str, Tensor]:
    """The recorded outputs of the training pass."""
    net, (latents, levels, owed) = published.net, shown(published)
    inputs = embedded(net, latents, levels, latents)
    joint = next(joint for joint in net.joints if isinstance(joint, Joint) and "video" in joint.towers)
    heard = Heard.of(joint.layers[0])
    states = net(inputs, {})
    x, _ = heard.outputs[0]
    spans, _ = joint._place([name for name in sorted(inputs) if net.group(name).tower in joint.towers], inputs)
    answers = {name: net.codec(name).read(states[name].hidden) for name in (*published.clips[0], "action")}
    clip = [name for copy in published.clips for name in copy]
    flows = {"video": published.size.video_flow, "action": published.size.action_flow}
    losses = {name: flow.loss(answers[name], owed[name], latents[name].valid) for name, flow in flows.items()}
    return {
        "train.velocity_video": published.picture(torch.cat([answers[name] for name in published.clips[0]], dim=1)),
        "train.velocity_action": answers["action"],
        "train.tokens_video_in": torch.cat([inputs[name].tokens for name in clip], dim=1),
        "train.tokens_action_in": inputs["action"].tokens,
        "train.block0_video": torch.cat([x["video"][:, spans["video"][name]] for name in clip], dim=1),  # pyright: ignore[reportArgumentType]
        "train.block0_action": x["expert"],  # pyright: ignore[reportArgumentType]
        "train.loss_video": losses["video"].mean()[None],
        "train.loss_action": losses["action"].mean()[None],
        "train.loss_total": (losses["video"] + losses["action"]).mean()[None],
        **{f"train.weight_{name}": flow.level_weight.at(owed[name].level) for name, flow in flows.items()},
    }


@torch.no_grad()
def acted(published: Published) -> dict[str, Tensor]:
    """The recorded outputs of acting: the recipe's own schedule from the recorded noise."""
    net, given, size = published.net, published.case.inputs, published.size
    observed = {
        "text": Latent(values=given["infer.context"], valid=given["infer.context_mask"].bool()),
        "state": all_valid(given["infer.proprio"][:, None]),
        "video.now": all_valid(published.tokens(given["infer.first_frame_latent"])),
    }
    noise = {"action": all_valid(given["infer.noise_action"])}
    if "infer.noise_video" in given:
        noise["video"] = all_valid(published.tokens(given["infer.noise_video"][:, :, 1:]))
    leave = Heard.of(net.get_submodule("codecs.action.leave"))
    settled = interpreter(net, observed, noise).run(published.recipe.stage.schedule).streams
    levels = grid(size.denoising_steps, factor=size.action_shift)
    steps = levels.diff()
    walk = torch.stack([step * v for step, v in zip(steps, leave.outputs, strict=True)]).cumsum(dim=0)
    found = {
        "infer.action": settled["action"][0],
        "infer.action_trajectory": (given["infer.noise_action"] + walk)[:, 0],
        "infer.timesteps": levels[:-1] * 1000,
        "infer.deltas": steps,
    }
    if "infer.video_latent" in published.case.outputs:
        clip = torch.cat([observed["video.now"].values, settled["video"]], dim=1)
        found["infer.video_latent"] = published.picture(clip)
    return found


def test_every_recorded_output_of_fast_wam_is_reproduced_from_the_published_weights(published: Published) -> None:
    found = {**trained(published), **acted(published)}
    assert found.keys() | {"train.attention_mask"} == published.case.outputs.keys()
    for name, ours in found.items():
        published.case.assert_close(name, ours.reshape(published.case.outputs[name].shape))


def test_the_edges_of_fast_wam_give_the_published_attention_mask(published: Published) -> None:
    """Where the published network holds the frame of now twice, seeing either copy is seeing it."""
    size, recorded = published.size, published.case.outputs["train.attention_mask"].bool()
    kinds = {name: published.net.group(name).view.kind for copy in published.clips for name in copy}
    num = {name: size.video.num_tokens(kind) for name, kind in kinds.items()} | {"action": size.action.num_actions}  # pyright: ignore[reportArgumentType]
    names = [name for copy in published.clips for name in copy] + ["action"]
    order = [(name, number) for name in names for number in range(num[name])]
    ours = mask_between(published.net.layout, num, order)
    same = torch.tensor([[a == b for b in order] for a in order])
    anywhere = (recorded.float() @ same.float()) > 0
    assert torch.equal(ours, anywhere)
    assert not ours.all()


def test_fast_wam_names_cover_every_published_tensor_and_lead_back_to_it(published: Published) -> None:
    names = fast_wam_names(published.size)
    back = exported(names, imported(names, published.case.weights))
    assert back.keys() == published.case.weights.keys()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, published.case.weights[name], atol=0, rtol=0)
