"""OpenVLA-OFT as recorded from its published classes (Kim et al. 2025, arXiv 2502.19645; MIT): one prediction.

The recorded sequence is [start, patches, (state), rest of the prompt, blanks, stop]; the last token of the prompt is
the mark in front of the blanks, which is our action codec's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.fused_pixels import FusedPatchCodec, FusedPatches, VisionTower
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.slices import ActionSlices, SliceCodec
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import embedded, load_published, mask_between
from crossroads.recipes.openvla_oft import PUBLISHED, OpenVlaOftSize, openvla_oft
from crossroads.recipes.openvla_oft_names import FEATURIZERS, openvla_oft_names, unused
from crossroads.stage import Stage
from crossroads.streams import Edge, reads
from crossroads.towers.group import GroupInput
from crossroads.towers.llama import Llama

VLA = "vla."
ONE_FORM = {"arch_specifier": "no-align+fused-gelu-mlp"}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights."""

    case: GoldenCase
    size: OpenVlaOftSize
    stage: Stage
    net: StreamNet
    latents: dict[str, Latent]

    def inputs(self, net: StreamNet) -> dict[str, GroupInput]:
        """All groups; the pictures are recorded as each vision transformer wants them, so they enter there."""
        found = embedded(net, self.latents, {}, self.latents)
        tokens = codec_of(net).projected(self.features(net))
        shown = rearrange(tokens, "(b v) n w -> b (v n) w", b=1)
        return {**found, "image": replace(found["image"], tokens=shown)}

    def features(self, net: StreamNet) -> Float[Tensor, "v n d"]:
        """What the vision transformers make of each picture."""
        pixels = rearrange(self.case.inputs["pixel_values"], "1 (v t c) h w -> t v c h w", t=2, c=3)
        return torch.cat([tower.states(x) for tower, x in zip(codec_of(net).towers, pixels, strict=True)], dim=-1)  # pyright: ignore[reportCallIssue]

    def in_sequence(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.cat([parts[name] for name in self.stage.sequence], dim=1)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    prepared = prepare(case)
    return Produced(outputs={**predicted(prepared), **seen(prepared), **causal(prepared)})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights and the recorded inputs."""
    size, given, made = size_of(case), case.inputs, case.meta["constructor"]
    stage = openvla_oft(size).stage
    pictures = torch.zeros(1, len(size.image.cameras), *size.image.image_hw, 3)
    latents = {
        "start": all_valid(torch.zeros(1, 1, 0)),
        "image": Latent(values=pictures, valid=torch.ones(1, size.image.num_tokens("now"), dtype=torch.bool)),
        "text": all_valid(given["input_ids"][:, 1:-1]),
        "action": all_valid(torch.zeros(1, size.action.num_tokens("noised"), 1)),
        "end": all_valid(torch.zeros(1, 2, 0)),
    }
    if size.state:
        latents["state"] = all_valid(given["proprio"].reshape(1, 1, -1))
    prepared = Prepared(case=case, size=size, stage=stage, net=loaded(case, size, stage), latents=latents)
    scale_as(codec_of_actions(prepared.net), made["norm_stats"])
    return prepared


def loaded(case: GoldenCase, size: OpenVlaOftSize, stage: Stage) -> StreamNet:
    """The network of a stage with the published weights."""
    made = case.meta["constructor"]
    rows = {
        "start": int(case.inputs["input_ids"][0, 0]),
        "blank": made["empty_token_id"],
        "stop": made["stop_token_id"],
    }
    net = build_net(stage).eval()
    left = frozenset(n for n in case.weights if any(re.fullmatch(pattern, n) for pattern in unused(size, VLA)))
    load_published(net, openvla_oft_names(size, vla=VLA, **rows), case.weights, unused=left)
    return net


def codec_of(net: StreamNet) -> FusedPatchCodec:
    codec = net.codec("image")
    assert isinstance(codec, FusedPatchCodec)
    return codec


def size_of(case: GoldenCase) -> OpenVlaOftSize:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor"]
    made.demand(ONE_FORM)
    llama, weights = made["llama"], case.weights
    llama.demand({"hidden_act": "silu"})
    side, patch = made["vision_primary"]["img_size"], made["vision_primary"]["patch"]
    made["vision_fused"].demand({"img_size": side, "patch": patch})
    towers = tuple(
        _tower(made[name], f"{VLA}vision_backbone.{theirs}", weights)
        for name, theirs in zip(("vision_primary", "vision_fused"), FEATURIZERS, strict=True)
    )
    assert isinstance(PUBLISHED.text.vocabulary, PretrainedVocabulary)
    assert isinstance(PUBLISHED.image, FusedPatches)
    blocks = {name.split(".")[3] for name in weights if name.startswith("action_head.model.mlp_resnet_blocks.")}
    width = llama["hidden_size"]
    return replace(
        PUBLISHED,
        image=FusedPatches(
            cameras=tuple(f"camera_{index}" for index in range(made["num_images_in_input"])),
            image_hw=(side, side),
            patch=patch,
            towers=towers,
            hidden=weights[f"{VLA}projector.fc1.bias"].shape[0],
        ),
        text=replace(
            PUBLISHED.text,
            vocabulary=replace(PUBLISHED.text.vocabulary, size=weights[f"{VLA}language_model.lm_head.weight"].shape[0]),
            max_tokens=case.inputs["input_ids"].shape[1],
        ),
        state=StateToken(num_state=made["PROPRIO_DIM"], hidden=(width,)) if made["use_proprio"] else None,
        action=ActionSlices(
            num_actions=made["NUM_ACTIONS_CHUNK"],
            action_size=made["ACTION_DIM"],
            control_hz=20.0,
            hidden=made["action_head_hidden"],
            blocks=len(blocks),
        ),
        language=Llama(
            width=width,
            mlp=llama["intermediate_size"],
            depth=llama["num_hidden_layers"],
            heads=llama["num_attention_heads"],
            kv_heads=llama["num_key_value_heads"],
            head_dim=width // llama["num_attention_heads"],
            eps=llama["rms_norm_eps"],
            theta=llama["rope_theta"],
        ),
    )


def _tower(made: Named, theirs: str, weights: Named[Tensor]) -> VisionTower:
    return VisionTower(
        width=made["embed_dim"],
        mlp=weights[f"{theirs}.blocks.0.mlp.fc1.bias"].shape[0],
        depth=made["depth"] - 1,
        heads=made["num_heads"],
        class_token=f"{theirs}.cls_token" in weights,
        registers=weights[f"{theirs}.reg_token"].shape[1] if f"{theirs}.reg_token" in weights else 0,
        layer_scale=f"{theirs}.blocks.0.ls1.scale_factor" in weights,
    )


def scale_as(codec: SliceCodec, recorded: Named) -> None:
    """Quantiles of the recorded data set, where its mask does not leave a number as it is."""
    stats = recorded[next(iter(recorded))]["action"]
    low, high = torch.tensor(stats["q01"]), torch.tensor(stats["q99"])
    kept = torch.tensor(stats["mask"] if "mask" in stats else [True] * len(low))
    codec.normaliser.offset.copy_(torch.where(kept, (low + high) / 2, torch.zeros(())))
    codec.normaliser.scale.copy_(torch.where(kept, (high - low) / 2, torch.ones(())))


@torch.no_grad()
def predicted(prepared: Prepared) -> dict[str, Tensor]:
    """The chunk, the states it was read from, and what the head for words would have said there."""
    net, made = prepared.net, prepared.case.meta["constructor"]
    inputs = prepared.inputs(net)
    states = net(inputs, {})
    codec, hidden = codec_of_actions(net), states["action"].hidden
    answer = codec.read(hidden)
    said = (hidden @ prepared.case.weights[f"{VLA}language_model.lm_head.weight"].T).argmax(dim=-1)
    head = prepared.size.text.vocabulary.size - made["pad_to_multiple_of"]
    edges = torch.linspace(-1, 1, made["n_action_bins"], dtype=torch.float64)
    centres = ((edges[:-1] + edges[1:]) / 2).float()
    number = (head - said - 1).clamp(0, len(centres) - 1)
    return {
        "actions": codec.decode(answer)[0],
        "normalized_actions": rearrange(answer, "1 (n a) 1 -> n a", a=prepared.size.action.action_size),
        "action_hidden_states": hidden,
        "llm_last_hidden": prepared.in_sequence({name: state.hidden for name, state in states.items()}),
        "multimodal_embeddings": prepared.in_sequence({name: part.tokens for name, part in inputs.items()}),
        "discrete_actions": codec.decode(centres[number][..., None])[0],
    }


def codec_of_actions(net: StreamNet) -> SliceCodec:
    codec = net.codec("action")
    assert isinstance(codec, SliceCodec)
    return codec


@torch.no_grad()
def seen(prepared: Prepared) -> dict[str, Tensor]:
    """Features of the picture, before and after the projector, and who reads whom."""
    features = prepared.features(prepared.net)
    num = {name: latent.valid.shape[1] for name, latent in prepared.latents.items()}
    order = [(name, number) for name in prepared.stage.sequence for number in range(num[name])]
    return {
        "vision_features": rearrange(features, "v n d -> 1 (v n) d"),
        "projected_patches": rearrange(codec_of(prepared.net).projected(features), "v n w -> 1 (v n) w"),
        "attention_mask_matrix": mask_between(prepared.net.layout, num, order)[None],
    }


@torch.no_grad()
def causal(prepared: Prepared) -> dict[str, Tensor]:
    """The same weights where nobody reads what comes later: recorded as what not to do."""
    order = prepared.stage.sequence
    edges = tuple(edge for index, name in enumerate(order) for edge in reads(name, *order[:index]))
    own = tuple(Edge(dst=name, src=name, when="causal") for name in order)
    net = loaded(prepared.case, prepared.size, replace(prepared.stage, edges=edges + own))
    scale_as(codec_of_actions(net), prepared.case.meta["constructor"]["norm_stats"])
    answer = codec_of_actions(net).read(net(prepared.inputs(net), {})["action"].hidden)
    return {"wrong_causal_actions": codec_of_actions(net).decode(answer)[0]}
