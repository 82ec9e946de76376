"""Being-H0.5 as recorded from its own code (BeingBeyond 2026, arXiv 2601.12993; Apache-2.0): all of it.

A case holds one training step over packed documents at given times and noise, and acting on the first document from
given noise. Every run of tokens of one kind is a group of ours; documents are groups that do not read each other.
Published time runs from noise (0) to the data (1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from crossroads.build import build_net
from crossroads.codecs.action_tokens import ActionTokens
from crossroads.codecs.banks import ACTIVATIONS
from crossroads.codecs.intern_pictures import InternPictures
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.resampled import MEAN, STD
from crossroads.codecs.spec import Latent, all_valid
from crossroads.codecs.state import StateToken
from crossroads.codecs.text import TextTokens
from crossroads.errors import InputError
from crossroads.net import StreamNet
from crossroads.noise import corrupt, level_from_data_forward, velocity
from crossroads.objectives import Flow
from crossroads.parity.being_h05_packing import Piece, edges_of, flat, pieces_of, splits_of
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import embedded, load_published, mask_between
from crossroads.recipes.being_h05_names import being_h05_names
from crossroads.schedule import Denoise
from crossroads.solvers import Euler
from crossroads.stage import Stage, Tower
from crossroads.streams import NOISED, NOW, Stream
from crossroads.towers.group import GroupInput, GroupState
from crossroads.towers.qwen import Qwen

RECORDED = {"text": "text_ids", "state": "state"}
TOWERS = {"text": "language", "image": "language", "state": "expert", "action": "expert"}
ONE_FORM = {
    **{"use_mpg": False, "use_training_time_rtc": False},
    **{"use_flow_matching": True, "use_expert": True},
}
ONE_DECODER = {
    **{"layer_module": "Qwen3MoTDecoderLayer", "hidden_act": "silu", "attention_bias": False},
    **{"rope_scaling": None, "use_sliding_window": False},
}
LAST = "language_model.lm_head.weight"
SMALL = 1e-8
"""What the published loss adds to the number of entries that count."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights, over some documents in some splits."""

    case: GoldenCase
    net: StreamNet
    pieces: tuple[Piece, ...]

    def inputs(self, actions: Float[Tensor, "n a"], level: Float[Tensor, " n"]) -> dict[str, GroupInput]:
        """Everything as placed tokens; ``level`` is that of each action."""
        given = self.case.inputs
        latents, levels = {}, {}
        for piece in self.pieces:
            if piece.kind == "action":
                levels[piece.name] = level[None, piece.own]
            if piece.kind == "image":
                latents[piece.name] = _pictures(self.net, piece, given)
            else:
                values = actions if piece.kind == "action" else given[RECORDED[piece.kind]]
                latents[piece.name] = all_valid(values[piece.own][None])
        found, placed = embedded(self.net, latents, levels, latents), {}
        for piece in self.pieces:
            index = given["position_ids"][None, piece.start : piece.stop].float()
            placed[piece.name] = replace(found[piece.name], places=replace(found[piece.name].places, index=index))
        return placed

    def packed(self, parts: Mapping[str, Tensor], tower: str) -> Float[Tensor, "n w"]:
        """Tokens of a tower in the published order: kind by kind, over all documents."""
        kinds = [kind for kind, own in TOWERS.items() if own == tower]
        ordered = [piece for kind in kinds for piece in self.pieces if piece.kind == kind]
        return torch.cat([parts[piece.name][0] for piece in ordered])

    def of(self, kind: str, states: Mapping[str, GroupState]) -> Float[Tensor, "n w"]:
        """Final hidden states of one kind."""
        return torch.cat([states[piece.name].hidden[0] for piece in self.pieces if piece.kind == kind])

    def answer(self, states: Mapping[str, GroupState]) -> Float[Tensor, "n a"]:
        """The published velocity, towards the data."""
        return -self.net.codec("action").read(self.of("action", states)[None])[0]

    def mask(self) -> Tensor:
        """Who reads whom over the packed sequence."""
        order = [(piece.name, number) for piece in self.pieces for number in range(piece.stop - piece.start)]
        num = {piece.name: piece.stop - piece.start for piece in self.pieces}
        return mask_between(self.net.layout, num, order).to(torch.uint8)


def _pictures(net: StreamNet, piece: Piece, given: Named[Tensor]) -> Latent:
    """The pictures of a run, as our codec takes them: recorded ones are normed already."""
    each = net.own_codec("image").spec.tokens_per_camera  # pyright: ignore[reportAttributeAccessIssue]
    if piece.first % each or (piece.stop - piece.start) % each:
        raise InputError(
            where=f"{given.where}, vit_indexes",
            expected=f"whole pictures of {each} tokens in a row",
            got=f"{piece.stop - piece.start} tokens, {piece.first} before them",
            do="Check that meta.json and inputs.safetensors are of one case.",
        )
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))
    pixels = (given["images"][piece.first // each : (piece.own.stop) // each] * std + mean) * 255
    valid = torch.ones(1, piece.stop - piece.start, dtype=torch.bool)
    return Latent(values=rearrange(pixels, "v c h w -> 1 v h w c"), valid=valid)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    outputs = trained(case)
    return Produced(outputs={**outputs, **acted(case)} if "sample_noise" in case.inputs else outputs)


def prepare(case: GoldenCase, documents: Sequence[int], splits: Iterable[tuple[int, str]]) -> Prepared:
    """The network over some documents, with the published weights."""
    pieces = pieces_of(case, documents, splits)
    language, image = decoder_of(case, "llm"), image_of(case)
    net = build_net(stage_of(case, pieces)).eval()
    rest = re.compile(r"vit_model\.encoder\.layers\.(\d+)\.")
    unused = {name for name in case.weights if (found := rest.match(name)) and int(found[1]) >= image.depth}
    names = being_h05_names(language, image, tied=LAST not in case.weights)
    load_published(net, names, case.weights, unused=frozenset(unused))
    return Prepared(case=case, net=net, pieces=pieces)


def stage_of(case: GoldenCase, pieces: Sequence[Piece]) -> Stage:
    """Two decoders that share a softmax; the first run of each kind has the weights of its ends."""
    made, width = case.meta["constructor"], case.meta["constructor"]["expert"]["hidden_size"]
    made.demand(ONE_FORM)
    words = PretrainedVocabulary(source="recorded", size=made["llm"]["vocab_size"], start=None, end=0)
    num_actions, size = made["action_chunk_length"], made["unified_action_dim"]
    buckets = made.get("num_timestep_buckets", 1000)
    codecs: dict[str, Any] = {
        "text": TextTokens(vocabulary=words, max_tokens=len(case.inputs["text_ids"]), tied=LAST not in case.weights),
        "image": image_of(case),
        "state": StateToken(num_state=made["unified_state_dim"], hidden=(width,), activation="relu"),
        "action": ActionTokens(
            num_actions=num_actions,
            action_size=size,
            control_hz=20.0,
            level_in_codec=True,
            buckets=buckets,
            hidden_out=(width,),
            activation="relu",
        ),
    }
    kinds = {piece.name: piece.kind for piece in pieces}
    kinds |= {kind: kind for kind in codecs if kind not in kinds}  # of what no document has, the weights are there
    streams = tuple(
        Stream(
            name=name,
            carries=kind,  # pyright: ignore[reportArgumentType]
            codec=codecs[kind],
            tower=TOWERS[kind],
            views=(NOISED if kind == "action" else NOW,),
            objective=Flow() if kind == "action" else None,
            shares=None if name == kind else kind,
        )
        for name, kind in kinds.items()
    )
    return Stage(
        name="policy",
        streams=streams,
        edges=edges_of(pieces),
        towers=(
            Tower(name="language", spec=decoder_of(case, "llm")),
            Tower(name="expert", spec=decoder_of(case, "expert")),
        ),
        schedule=(Denoise(streams=("action",), solver=Euler(steps=made["num_inference_timesteps"])),),
    )


def decoder_of(case: GoldenCase, part: str) -> Qwen:
    """The language model, or the expert, which has as many layers and heads of the same size."""
    made = case.meta["constructor"]
    whole, own = made["llm"], made[part]
    whole.demand(ONE_DECODER)
    heads = whole["num_attention_heads"]
    head_dim = whole.get("head_dim") or whole["hidden_size"] // heads
    return Qwen(
        width=own["hidden_size"],
        mlp=own["intermediate_size"],
        depth=whole["num_hidden_layers"],
        heads=heads,
        kv_heads=whole.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        eps=own.get("rms_norm_eps", made.get("rms_norm_eps", 1e-6)),
        theta=float(whole.get("rope_theta", made.get("rope_theta", 1e4))),
        sections=(head_dim // 2, 0, 0),
        normed=whole.get("qk_norm", True),
    )


def image_of(case: GoldenCase) -> InternPictures:
    """InternViT and the connector; the weights say whether queries and keys have norms."""
    made = case.meta["constructor"]
    vision, patch = made["vit"], made["vit"]["patch_size"]

    def of(name: str, default: Any) -> Any:
        return made.get(f"vit_{name}", vision.get(name, default))

    kind, act = of("norm_type", "rms_norm"), of("act", vision.get("hidden_act", "gelu"))
    if kind not in ("rms_norm", "layer_norm") or act not in ACTIVATIONS:
        raise InputError(
            where=f"{made.where}.vit",
            expected=f"rms_norm or layer_norm, and one of {', '.join(ACTIVATIONS)}",
            got=f"{kind}, {act}",
            do="crossroads has no other form of this network.",
        )
    pictures = case.inputs.get("images")
    hw = (vision["image_size"],) * 2 if pictures is None else tuple(pictures.shape[-2:])
    ratio = re.search(r"downsample_ratio\s*[=:]?\s*([\d.]*\d)", str(made.get("connector", "")))
    depth = vision["num_hidden_layers"]
    return InternPictures(
        cameras=tuple(f"picture_{number}" for number in range(1 if pictures is None else len(pictures))),
        image_hw=hw,
        patch=patch,
        depth=made.get("select_layer", -1) % (depth + 1),
        vision_width=vision["hidden_size"],
        vision_mlp=vision["intermediate_size"],
        heads=vision["num_attention_heads"],
        places=vision["image_size"] // patch,
        shuffle=int(1 / float(ratio[1] if ratio else made.get("downsample_ratio", 0.5))),
        rms=kind == "rms_norm",
        biased=of("qkv_bias", False),
        normed="vit_model.encoder.layers.0.attn.q_norm.weight" in case.weights,
        eps=of("layer_norm_eps", 1e-6),
        activation=act,
    )


@torch.no_grad()
def trained(case: GoldenCase) -> dict[str, Tensor]:
    """The training step over all documents."""
    given, num = case.inputs, case.meta["constructor"]["action_chunk_length"]
    prepared = prepare(case, flat(case.meta["sample_lens"]), splits_of(case))
    level = level_from_data_forward(given["time"].double()).repeat_interleave(num)
    noised = corrupt(given["actions"], given["noise"], level[:, None].float())
    inputs = prepared.inputs(noised, level)
    states = prepared.net(inputs, {})
    tokens = {name: one.tokens for name, one in inputs.items()}
    hidden = {name: state.hidden for name, state in states.items()}
    answer, mask = prepared.answer(states), given["action_mask"]
    error = mask * (answer + velocity(given["actions"], given["noise"])) ** 2
    und = {f"und_{at}": prepared.packed(found, "language") for at, found in _stages(tokens, hidden)}
    gen = {f"gen_{at}": prepared.packed(found, "expert") for at, found in _stages(tokens, hidden)}
    acting = torch.cat([tokens[piece.name][0] for piece in prepared.pieces if piece.kind == "action"])
    outputs = {
        "action_loss": error.sum() / (mask.sum() + SMALL),
        "und_loss": torch.zeros(()),
        "velocity": rearrange(answer, "(b n) a -> b n a", n=num),
        "action_features": rearrange(acting, "(b n) w -> b n w", n=num),
        "state_features": torch.cat([tokens[piece.name][0] for piece in prepared.pieces if piece.kind == "state"]),
        "attention_mask": prepared.mask(),
    }
    if "ce_indexes" in given:
        where = {
            at: hidden[piece.name][0, at - piece.start]
            for piece in prepared.pieces
            for at in range(piece.start, piece.stop)
        }
        chosen = torch.stack([where[at] for at in given["ce_indexes"].tolist()])
        scores = prepared.net.codec("text").read(chosen[None])[0]
        outputs |= {"logits": scores, "und_loss": functional.cross_entropy(scores, given["labels"])}
    return {**outputs, **und, **gen}


def _stages(tokens: dict[str, Tensor], hidden: dict[str, Tensor]) -> tuple[tuple[str, dict[str, Tensor]], ...]:
    """What enters the towers, and what leaves them."""
    return (("embeddings", tokens), ("last_hidden", hidden))


@torch.no_grad()
def acted(case: GoldenCase) -> dict[str, Tensor]:
    """Acting on the first document alone, which is one split in the mode of its first, in equal steps; the level is the
    middle of the bucket that published code cuts from a float."""
    made, num = case.meta["constructor"], flat(case.meta["sample_lens"])[0]
    prepared = prepare(case, (num,), ((num, splits_of(case)[0][1]),))
    steps, buckets = made["num_inference_timesteps"], made.get("num_timestep_buckets", 1000)
    x, found = case.inputs["sample_noise"][0], []
    for step in range(steps):
        time = (int(step / float(steps) * buckets) + 0.5) / buckets
        level = torch.full((len(x),), 1 - time, dtype=torch.float64)
        found.append(prepared.answer(prepared.net(prepared.inputs(x, level), {})))
        x = x + found[-1] / steps
    return {
        "sample_actions": x,
        "sample_velocities": torch.stack(found)[:, None],
        "inference_attention_mask": prepared.mask(),
    }
