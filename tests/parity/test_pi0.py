"""pi0 against openpi's PyTorch code: every recorded output that a recipe can produce, from the published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from einops import rearrange, repeat
from published_case import Heard, all_valid, embedded, interpreter, mask_between
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens, level_sinusoid
from crossroads.codecs.pixels import Patches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.spec import Latent
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import corrupt, velocity
from crossroads.recipe import Stage
from crossroads.recipes.names import exported, imported, load_weights, pi0_names
from crossroads.recipes.pi0 import PUBLISHED, Pi0Size, pi0
from crossroads.schedule import Denoise, Leg
from crossroads.streams import Corrupted
from crossroads.towers.gemma import Gemma
from golden import GoldenCase, golden_cases, load_golden

pytestmark = pytest.mark.golden
PREFIX, SUFFIX = ("image", "text"), ("state", "action")
NOT_OURS = {"att_flags"}  # how openpi writes its mask down; ours is edges
UNUSED = {"paligemma_with_expert.gemma_expert.lm_head.weight", "paligemma_with_expert.paligemma.lm_head.weight"}


def size_of(case: GoldenCase) -> Pi0Size:
    """The published size with the numbers of a recorded case."""
    made, vision = case.meta["constructor"], case.meta["constructor"]["siglip"]

    def gemma(spec: Mapping[str, int]) -> Gemma:
        return Gemma(
            width=spec["width"],
            mlp=spec["mlp_dim"],
            depth=spec["depth"],
            heads=spec["num_heads"],
            kv_heads=spec["num_kv_heads"],
            head_dim=spec["head_dim"],
            eps=made["rms_norm_eps"],
            theta=made["rope_theta"],
        )

    num_cameras = sum(name.startswith("image_mask") for name in case.inputs)
    assert isinstance(PUBLISHED.text.vocabulary, PretrainedVocabulary)
    return replace(
        PUBLISHED,
        image=Patches(
            cameras=tuple(f"camera_{index}" for index in range(num_cameras)),
            image_hw=(vision["image_size"], vision["image_size"]),
            patch=vision["patch_size"],
            depth=vision["num_hidden_layers"],
            vision_width=vision["hidden_size"],
            vision_mlp=vision["intermediate_size"],
            heads=vision["num_attention_heads"],
        ),
        text=TextTokens(
            vocabulary=replace(PUBLISHED.text.vocabulary, size=made["vocab_size"]),
            max_tokens=case.inputs["tokens"].shape[1],
            scaled=True,
        ),
        state=StateToken(num_state=made["action_dim"]),
        action=ActionTokens(
            num_actions=made["action_horizon"], action_size=made["action_dim"], control_hz=50.0, level_in_codec=True
        ),
        language=gemma(made["vlm_gemma"]),
        expert=gemma(made["action_expert_gemma"]),
    )


@dataclass(frozen=True, kw_only=True)
class Published:
    """A recorded case beside our network with its weights; ``latents`` hold the actions at the recorded level."""

    case: GoldenCase
    size: Pi0Size
    stage: Stage
    net: StreamNet
    latents: Mapping[str, Latent]
    level: Tensor

    @property
    def pad_mask(self) -> Tensor:
        return torch.cat([self.latents[name].valid for name in (*PREFIX, *SUFFIX)], dim=1)

    def inputs(self, names: tuple[str, ...]):
        return embedded(self.net, self.latents, {"action": self.level}, names)

    @torch.no_grad()
    def sample(self, legs: tuple[Leg, ...]) -> Tensor:
        """The actions that a schedule settles from the recorded noise."""
        observed = {name: self.latents[name] for name in ("image", "text", "state")}
        noise = {"action": all_valid(self.case.inputs["sample_noise"])}
        return interpreter(self.net, observed, noise).run(legs).streams["action"]


def drifting(steps: int) -> tuple[Leg, ...]:
    """The recipe's Euler steps at openpi's times, which add -1/steps in float32 and so drift by about 1e-7; the
    fastest wave of pi0's time embedding turns that into 1e-4 rad."""
    times, step = [torch.tensor(1.0)], torch.tensor(-1.0 / steps)
    for _ in range(steps):
        times.append(times[-1] + step)
    return tuple(
        Denoise(streams=("action",), steps=1, start=start.item(), stop=stop.item()) for start, stop in pairwise(times)
    )


@pytest.fixture(scope="module", params=golden_cases("pi0"))
def published(request: pytest.FixtureRequest) -> Published:
    case = load_golden("pi0", request.param)
    size, given = size_of(case), case.inputs
    stage = pi0(size).stage
    net = build_net(stage).eval()
    load_weights(net, imported(pi0_names(size), case.weights))
    cameras = range(len(size.image.cameras))
    seen = [repeat(given[f"image_mask_{i}"], "b -> b n", n=size.image.patches_per_camera) for i in cameras]
    pixels = torch.stack([rearrange(given[f"image_{i}"], "b c h w -> b h w c") for i in cameras], dim=1)
    noisy = corrupt(given["actions"], given["noise"], given["time"][:, None, None])
    latents = {
        "image": Latent(values=(pixels + 1) * 127.5, valid=torch.cat(seen, dim=1)),
        "text": Latent(values=given["tokens"], valid=given["token_mask"]),
        "state": all_valid(given["state"][:, None]),
        "action": all_valid(noisy),
    }
    return Published(case=case, size=size, stage=stage, net=net, latents=latents, level=given["time"][:, None])


@torch.no_grad()
def outputs_of(published: Published) -> dict[str, Tensor]:
    """Everything that was recorded, from our network."""
    net, given, latents, level = published.net, published.case.inputs, published.latents, published.level
    inputs = published.inputs((*PREFIX, *SUFFIX))
    states = net(inputs, {})
    action = net.codec("action")
    answer, target = action.read(states["action"].hidden), velocity(given["actions"], given["noise"])
    noisy = Corrupted(latent=latents["action"].values, level=level[:, 0], target=target)
    flow = published.size.action_flow
    prefix = net({name: inputs[name] for name in PREFIX}, {})
    suffix = net({name: inputs[name] for name in SUFFIX}, prefix)
    cached = action.read(suffix["action"].hidden)
    leave = Heard.of(net.get_submodule("codecs.action.leave"))
    sampled = published.sample(drifting(published.size.denoising_steps))
    order = [(name, number) for name in (*PREFIX, *SUFFIX) for number in range(latents[name].valid.shape[1])]
    seen = mask_between(net.layout, {name: latents[name].valid.shape[1] for name in latents}, order)
    pad = published.pad_mask
    found = {
        "train_velocity": answer,
        "train_loss_per_element": (answer - target) ** 2,
        "train_loss_mean": flow.loss(answer, noisy, latents["action"].valid).mean(),
        "x_t": latents["action"].values,
        "prefix_embs": torch.cat([inputs[name].tokens for name in PREFIX], dim=1),
        "suffix_embs": torch.cat([inputs[name].tokens for name in SUFFIX], dim=1),
        "time_embedding": level_sinusoid(level, published.size.expert.width)[:, 0],
        "attention_mask": seen & pad[:, None, :] & pad[:, :, None],
        "position_ids": torch.cat([inputs[name].places.index for name in (*PREFIX, *SUFFIX)], dim=1),
        "pad_mask": pad,
        "cached_velocity": cached,
        "sample_actions": sampled,
        "sample_velocities": torch.stack(leave.outputs),
    }
    for layer in range(published.size.language.depth):
        for what, of in (("key", "keys"), ("value", "values")):
            parts = [getattr(prefix[name], of)[layer] for name in PREFIX]
            found[f"prefix_{what}_layer{layer}"] = rearrange(torch.cat(parts, dim=1), "b n g d -> b g n d")
    return found


def test_every_recorded_output_of_pi0_is_reproduced_from_the_published_weights(published: Published) -> None:
    case, found = published.case, outputs_of(published)
    assert found.keys() | NOT_OURS == case.outputs.keys()
    pad, prefix = published.pad_mask, published.pad_mask[:, : case.outputs["prefix_embs"].shape[1]]
    for name, ours in found.items():
        recorded = case.outputs[name]
        if name.startswith(("prefix_key", "prefix_value")):  # padding is read by nobody and differs freely
            ours = torch.where(prefix[:, None, :, None], ours, recorded)
        elif name == "position_ids":
            ours = torch.where(pad, ours.long(), recorded)
        case.assert_close(name, ours if recorded.is_floating_point() else ours.to(recorded.dtype))


def test_the_schedule_of_pi0_settles_the_recorded_actions_but_for_the_drift_of_time(published: Published) -> None:
    sampled = published.sample(published.stage.schedule)
    published.case.assert_close("sample_actions", sampled, atol=1e-3, rtol=0.0)


def test_pi0_names_cover_every_published_tensor_and_lead_back_to_it(published: Published) -> None:
    names = pi0_names(published.size)
    back = exported(names, imported(names, published.case.weights))
    assert back.keys() | UNUSED >= published.case.weights.keys()
    for name, tensor in back.items():
        torch.testing.assert_close(tensor, published.case.weights[name], atol=0, rtol=0)


def test_weights_of_another_size_are_refused(published: Published) -> None:
    weights = imported(pi0_names(published.size), published.case.weights)
    wrong = {**weights, "codecs.state.enter.bias": torch.zeros(3)}
    with pytest.raises(InputError, match=r"codecs\.state\.enter\.bias.*expected shape"):
        load_weights(published.net, wrong)
    with pytest.raises(InputError, match=r"missing \['codecs\.state\.enter\.bias'\]"):
        load_weights(published.net, {name: w for name, w in weights.items() if name != "codecs.state.enter.bias"})
