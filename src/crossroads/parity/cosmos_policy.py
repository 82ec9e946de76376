"""Cosmos Policy as recorded from the official network, loss, sampler and injection functions (NVlabs/cosmos-policy).

A case holds a training step over a clip of latent frames (which of them are given clean, its condition mask says),
sampling from recorded noise, the network on its own (``dit.*``), vectors written into frames and read back
(``codec.*``) and the scaling of its noise convention (``precond.*``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_image import frame_from_vector, vector_from_frame
from crossroads.codecs.frames import FrameCodec
from crossroads.codecs.published_text import TextFeatures
from crossroads.codecs.slots import CameraSlots
from crossroads.codecs.spec import Latent
from crossroads.codecs.wan_autoencoder import WanAutoencoder
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import level_from_edm, velocity
from crossroads.objectives import Flow
from crossroads.parity.alone import Alone
from crossroads.parity.case import GoldenCase, Tolerance
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import all_valid, by_group, embedded, hearing, interpreter, joint_of, load_published
from crossroads.recipe import Recipe
from crossroads.recipes.cosmos_policy import FUTURE, cosmos_policy
from crossroads.recipes.cosmos_policy_sizes import PUBLISHED, CosmosPolicySize
from crossroads.recipes.names import cosmos_policy_names
from crossroads.schedule import Denoise
from crossroads.solvers import ExponentialMultistep
from crossroads.streams import Corrupted
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.given import Given

ONE_FORM = {
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "extra_per_block_abs_pos_emb": False,
    "rope_enable_fps_modulation": False,
}
SCALING = {"sigma_data": 1.0, "sigma_conditional": 0.0, "denoise_replace_gt_frames": True, "scaling": "rectified_flow"}
OTHERS = ("blank", "proprio", "action", "future_proprio", "value")
TABLES = frozenset({"pos_embedder.dim_spatial_range", "pos_embedder.dim_temporal_range", "pos_embedder.seq"})
SAMPLED = Tolerance(absolute=1e-4, relative=1e-4)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights; ``slots``: the latent frames of each group."""

    case: GoldenCase
    size: CosmosPolicySize
    recipe: Recipe
    net: StreamNet
    slots: dict[str, tuple[int, ...]]

    def split(self, clip: Float[Tensor, "b c t h w"]) -> dict[str, Tensor]:
        """A clip's tokens by group."""
        p = self.size.video.patch
        return {
            name: rearrange(clip[:, :, list(at)], "b c t (h p) (w q) -> b (t h w) (p q c)", p=p, q=p)
            for name, at in self.slots.items()
        }

    def spread(self, per_frame: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What each frame has, for each of its tokens, by group."""
        num = self.size.video.frame(0).num_tokens
        return {name: repeat(per_frame[:, list(at)], "b t -> b (t n)", n=num) for name, at in self.slots.items()}

    def clip(self, tokens: dict[str, Tensor]) -> Float[Tensor, "b c t h w"]:
        """Tokens by group as a clip."""
        (rows, columns), p = self.size.video.grid_hw, self.size.video.patch
        sizes = {"h": rows, "w": columns, "p": p, "q": p}
        frames: dict[int, Tensor] = {}
        for name, at in self.slots.items():
            found = rearrange(tokens[name], "b (t h w) (p q c) -> b c t (h p) (w q)", **sizes)
            frames.update(zip(at, found.unbind(dim=2), strict=True))
        return torch.stack([frames[index] for index in sorted(frames)], dim=2)

    def codec(self, name: str) -> FrameCodec:
        codec = self.net.codec(name)
        assert isinstance(codec, FrameCodec)
        return codec


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    outputs = {**trained(prepared), **sampled(prepared), **alone(prepared), **vectors(case), **scaled(case)}
    words = {name: SAMPLED for name in outputs if name.startswith("sample.")}
    divided = {"loss.eps_pred": Tolerance(absolute=case.tolerance.absolute, relative=1e-4)}
    return Produced(outputs=outputs, tolerances={**words, **divided})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights."""
    case.meta["options"].demand(SCALING)
    size = size_of(case)
    recipe = cosmos_policy(size)
    net = build_net(recipe.stage).eval()
    load_published(net, cosmos_policy_names(size), case.weights, unused=TABLES)
    state, action, later, value = ((slot,) for slot in size.slots)
    slots = {"state": state, "action": action, "future_state": later, "value": value}
    slots |= {"video.now": size.video.slots("now"), "video": size.video.slots("noised")}
    return Prepared(case=case, size=size, recipe=recipe, net=net, slots=slots)


def size_of(case: GoldenCase) -> CosmosPolicySize:
    """The published size with the numbers of a recorded case."""
    made, given, layout = case.meta["constructor"]["MinimalV1LVGDiT"], case.inputs, case.meta["layout"]
    made.demand(ONE_FORM)
    cameras = tuple(name for name in layout if name not in OTHERS and f"future_{name}" in layout)
    if set(layout) != {*OTHERS, *cameras, *(f"future_{name}" for name in cameras)}:
        raise InputError(
            where=f"{case.meta.where}.layout",
            expected=f"{', '.join(OTHERS)} and cameras, each with its future",
            got=str(sorted(layout)),
            do="Record the case again.",
        )
    _, channels, _, rows, columns = given["x0_latents"].shape
    scale = WanAutoencoder(source="recorded", channels=channels, space_factor=8)
    head = made["model_channels"] // made["num_heads"]
    side = head // 6 * 2
    return replace(
        PUBLISHED,
        text=TextFeatures(source="recorded", width=given["text_emb"].shape[2], max_tokens=given["text_emb"].shape[1]),
        text_tower=Given(width=given["text_emb"].shape[2]),
        video=CameraSlots(
            cameras=cameras,
            image_hw=(rows * scale.space_factor, columns * scale.space_factor),
            after_s=PUBLISHED.video.after_s,
            now=tuple(layout[name] for name in cameras),
            future=tuple(layout[f"future_{name}"] for name in cameras),
            autoencoder=scale,
            patch=made["patch_spatial"],
            marked=True,
        ),
        tower=Cosmos(
            width=made["model_channels"],
            mlp=int(made["mlp_ratio"] * made["model_channels"]),
            depth=made["num_blocks"],
            heads=made["num_heads"],
            head_dim=head,
            rotary=(head - 2 * side, side, side),
            stretch=tuple(made[f"rope_{axis}_extrapolation_ratio"] for axis in "thw"),
            modulation_width=made["adaln_lora_dim"],
            context_width=made["crossattn_emb_channels"],
        ),
        slots=tuple(layout[name] for name in ("proprio", "action", "future_proprio", "value")),
        num_state=given["proprio"].shape[1],
        num_actions=given["action_chunk"].shape[1],
        action_size=given["action_chunk"].shape[2],
    )


def injected(prepared: Prepared, *names: str) -> Tensor:
    """The clean clip with some vectors written into their frames."""
    given, clip = prepared.case.inputs, prepared.case.inputs["x0_latents"].clone()
    vectors = {"state": given["proprio"], "action": given["action_chunk"], "future_state": given["future_proprio"]}
    vectors["value"] = given["value_return"][:, None]
    for name in names:
        clip[:, :, prepared.slots[name][0]] = frame_from_vector(vectors[name], prepared.size.video.frame(0).size)
    return clip


def words(prepared: Prepared) -> Latent:
    return all_valid(prepared.case.inputs["text_emb"])


@torch.no_grad()
def trained(prepared: Prepared) -> dict[str, Tensor]:
    """The training step."""
    net, given, stage = prepared.net, prepared.case.inputs, prepared.recipe.stage
    clean = injected(prepared, "action", "state", "future_state", "value")
    held = given["condition_mask"][:, 0, :, 0, 0].bool()
    sigma, where = given["sigma"].expand(held.shape), held[:, None, :, None, None]
    noised = clean + rearrange(sigma, "b t -> b 1 t 1 1") * given["epsilon"]
    level = level_from_edm(sigma)
    shown = torch.where(where, clean, (1 - rearrange(level, "b t -> b 1 t 1 1")) * noised)
    told = level.masked_fill(held, 0.0)
    latents = {name: all_valid(part) for name, part in prepared.split(shown).items()}
    latents["text"], levels = words(prepared), prepared.spread(told)
    inputs = embedded(net, latents, levels, latents)
    with hearing(joint_of(net, "video").layers[0]) as heard:
        states = net(inputs, {})
    block = by_group(net, inputs, "video", heard[0][0]["video"])
    answers = {name: net.codec(name).read(states[name].hidden) for name in prepared.slots}
    answer = prepared.clip(answers)
    found = (1 - rearrange(level, "b t -> b 1 t 1 1")) * noised - rearrange(level, "b t -> b 1 t 1 1") * answer
    found = torch.where(where, clean, found)
    weight = (1 + given["sigma"]) ** 2 / given["sigma"] ** 2
    errors = (weight.expand(held.shape)[:, None, :, None, None] * (clean - found) ** 2).mean(dim=(1, 3, 4))
    owed, spared = prepared.split(velocity(clean, given["epsilon"])), prepared.spread(held.float())
    total = torch.zeros(())
    for name in ("action", *FUTURE):
        flow = stage.stream(name).objective
        assert isinstance(flow, Flow)
        more = prepared.case.meta["options"]["action_loss_multiplier"] if name == "action" else 1
        wanted = Corrupted(latent=latents[name].values, level=levels[name], target=owed[name])
        answered = torch.where(spared[name].bool()[..., None], owed[name], answers[name])  # what is given owes nothing
        total = total + more * flow.weight * flow.loss(answered, wanted, latents[name].valid).mean()
    rows, columns = prepared.size.video.grid_hw
    stacked = {}
    for name, at in prepared.slots.items():
        parts = rearrange(block[name], "b (t h w) d -> t b h w d", h=rows, w=columns)
        stacked.update(zip(at, parts, strict=True))
    return {
        "loss.x0_injected": clean,
        "loss.xt": noised,
        "loss.weights_per_sigma": weight,
        "loss.net_input": shown,
        "loss.net_timesteps": told,
        "loss.net_output": answer,
        "loss.block0_out": torch.stack([stacked[index] for index in sorted(stacked)], dim=1),
        "loss.x0_pred": found,
        "loss.eps_pred": (noised - found) / rearrange(sigma, "b t -> b 1 t 1 1"),
        "loss.edm_loss_per_frame": errors,
        "loss.total_times_10": total[None],
    }


@torch.no_grad()
def sampled(prepared: Prepared) -> dict[str, Tensor]:
    """Sampling from the recorded noise, in the recorded number of steps and in one."""
    clean = prepared.split(injected(prepared, "state"))
    noise = prepared.split(prepared.case.inputs["sample.noise"])
    seen = {name: all_valid(clean[name]) for name in ("state", "video.now")} | {"text": words(prepared)}
    moving = ("action", *FUTURE)

    def settle(steps: int) -> dict[str, Tensor]:
        started = interpreter(prepared.net, seen, {name: all_valid(noise[name]) for name in moving})
        return dict(started.run((Denoise(streams=moving, solver=ExponentialMultistep(steps=steps)),)).streams)

    steps = int(prepared.case.inputs["sample.num_steps"].item())
    many, one = settle(steps), settle(1)
    return {
        "sample.latents": prepared.clip({**clean, **many}),
        "sample.latents_one_step": prepared.clip({**clean, **one}),
        "sample.sigmas_called": torch.tensor(ExponentialMultistep(steps=steps).sigmas(), dtype=torch.float64),
        "sample.action": prepared.codec("action").vector(
            many["action"], (prepared.size.num_actions, prepared.size.action_size)
        ),
        "sample.value": prepared.codec("value").vector(many["value"], (1,))[:, 0],
    }


@torch.no_grad()
def alone(prepared: Prepared) -> dict[str, Tensor]:
    """The network by itself: levels per frame, the condition mask as one of its channels."""
    given, size = prepared.case.inputs, prepared.size
    assert isinstance(size.tower, Cosmos)
    _, channels, frames, rows, columns = given["dit.x"].shape
    lone = Alone(
        tower=size.tower,
        channels=channels,
        latents=(frames, rows, columns),
        patch=size.video.patch,
        num_words=given["dit.text_emb"].shape[1],
    )
    net = lone.net().eval()
    load_published(net, cosmos_policy_names(size), prepared.case.weights, unused=TABLES)
    x = torch.cat([given["dit.x"], given["dit.condition_mask"], torch.zeros_like(given["dit.condition_mask"])], dim=1)
    return {"dit.output": lone.answer(net, lone.inputs(net, x, given["dit.timesteps"], given["dit.text_emb"]))}


def vectors(case: GoldenCase) -> dict[str, Tensor]:
    """Vectors written into frames and read back, in every recorded ratio of sizes."""
    found: dict[str, Tensor] = {}
    for name in sorted({name.split(".")[1] for name in case.outputs if name.startswith("codec.")}):
        given = {part: case.inputs[f"codec.{name}.{part}"] for part in ("vector", "noisy_latents", "index")}
        _, channels, _, rows, columns = given["noisy_latents"].shape
        written = frame_from_vector(given["vector"], (channels, rows, columns))
        read = given["noisy_latents"][torch.arange(len(written)), :, given["index"].long()]
        shape = tuple(case.outputs[f"codec.{name}.decode_of_noisy"].shape[1:])
        found |= {
            f"codec.{name}.encoded_frame": written,
            f"codec.{name}.decode_of_noisy": vector_from_frame(read, shape),
            f"codec.{name}.decode_of_encoded": vector_from_frame(written, shape),
            f"codec.{name}.value_decode_of_noisy": vector_from_frame(read, (1,))[:, 0],
        }
    return found


def scaled(case: GoldenCase) -> dict[str, Tensor]:
    """The published scaling in our levels."""
    sigma = case.inputs["precond.sigma"]
    level = level_from_edm(sigma)
    return {
        "precond.c_skip": 1 - level,
        "precond.c_out": -level,
        "precond.c_in": 1 - level,
        "precond.c_noise": level,
        "precond.loss_weight": (1 + sigma) ** 2 / sigma**2,
    }
