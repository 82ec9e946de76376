"""GR-1 as recorded from its published class (Wu et al. 2024, arXiv 2312.13139; Apache-2.0): one pass over a window.

Recorded are the frozen encoders' features, so our codecs are entered behind them.
"""

from __future__ import annotations

import math
import re

import torch
from einops import rearrange, repeat
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.action_queries import ActionQueries
from crossroads.codecs.foreseen import FuturePatchCodec, FuturePatches
from crossroads.codecs.gripper_state import GripperState
from crossroads.codecs.resampled import MaskedAutoencoder, ResampledCodec, ResampledImages
from crossroads.codecs.resampler import Resampler
from crossroads.codecs.sentence import ClipSentences, SentenceTokens
from crossroads.codecs.steps import Steps
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import load_published
from crossroads.parity.windows import RecordedWindow
from crossroads.recipes.foresight_names import GR1_UNUSED, gr1_names
from crossroads.recipes.foresight_sizes import OBSERVED, ForesightSize
from crossroads.recipes.gr1 import gr1
from crossroads.towers.plain import Gpt

CAMERAS = ("static", "hand")
ACTIVATIONS = {"relu": "relu", "gelu_new": "gelu"}
ONE_FORM = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    size = size_of(case)
    net = loaded(case, size)
    window = window_of(case, size, net)
    states, entered, left = window.run()
    found: dict[str, Tensor] = {
        "tap_tokens_after_embed_ln": entered,
        "tap_gpt_last_hidden": left,
        "attention_visible": window.visible().to(torch.uint8),
        "tap_resampler_static": _seeing(net).resampler(case.inputs["mae_patch_static"]),
    }
    return Produced(outputs={**found, **_answers(case, size, net, states)})


@torch.no_grad()
def _answers(case: GoldenCase, size: ForesightSize, net: StreamNet, states: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    if size.action:
        arm, gripper = net.codec("action").read(states["action"]).split([size.action.action_size - 1, 1], dim=-1)
        found |= {"arm_action_preds": arm, "gripper_action_logits": gripper}
    if size.video:
        codec = net.codec("video")
        assert isinstance(codec, FuturePatchCodec)
        t, p = size.video.steps.num, size.video.decoder.num_masks
        frames = rearrange(codec.read(states["video"]), "b (t v) (p c) -> v b t p c", t=t, p=p)
        pictures = {"obs": "rgb", "obs_hand": "hand_rgb"}
        for (name, shown), frame in zip(pictures.items(), frames, strict=False):
            found |= {f"{name}_preds": frame, f"{name}_targets": codec.patches(case.inputs[shown])}
    return found


def size_of(case: GoldenCase) -> ForesightSize:
    """The sizes that the constructor was given, and those that only the weights tell."""
    made, weights = case.meta["constructor_arguments"], case.weights
    made.demand(ONE_FORM)
    steps = Steps(num=made["sequence_length"], apart_s=1.0, ahead=1)
    cameras = CAMERAS if made["use_hand_rgb"] else CAMERAS[:1]
    reads, width, asked = made["resampler_params"], made["hidden_size"], made["training_target"]
    side = case.inputs["rgb"].shape[-1]
    inner = weights["pred_act_mlps.0.bias"].shape[0] if "act_pred" in asked else 0
    video = None
    if "fwd_pred" in asked:
        foreseen = cameras if "fwd_pred_hand" in asked else cameras[:1]
        video = FuturePatches(
            cameras=foreseen,
            image_hw=(side, side),
            patch=math.isqrt(weights["decoder_pred.bias"].shape[0] // 3),
            num_queries=weights["obs_queries.weight"].shape[0],
            steps=steps,
            depth=_count(weights, r"decoder_blocks\.(\d+)\."),
            even=None if made["without_norm_pixel_loss"] else "deviation",
        )
    return ForesightSize(
        text=SentenceTokens(source=ClipSentences(source="none", width=made["lang_feat_dim"]), steps=steps, unit=True),
        state=GripperState(num_state=made["state_dim"], steps=steps),
        image=ResampledImages(
            cameras=cameras,
            image_hw=(side, side),
            patch=1,
            vision=MaskedAutoencoder(source="none", width=made["patch_feat_dim"], class_width=made["img_feat_dim"]),
            resampler=Resampler(
                num=reads["num_latents"],
                depth=reads["depth"],
                heads=reads["heads"],
                head_dim=reads["dim_head"],
                marked=True,
            ),
            steps=steps,
        ),
        action=ActionQueries(
            num_actions=1, action_size=made["act_dim"], control_hz=1.0, steps=steps, hidden=(inner, inner)
        )
        if "act_pred" in asked
        else None,
        video=video,
        tower=Gpt(
            width=width,
            mlp=made["n_inner"] if made.get("n_inner") else 4 * width,
            depth=made["n_layer"],
            heads=made["n_head"],
            num_steps=steps.num,
            activation=ACTIVATIONS[made["activation_function"]],  # pyright: ignore[reportArgumentType]
        ),
        departs=(),
    )


def _count(names: object, pattern: str) -> int:
    """How many numbers stand in names at a place."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})  # pyright: ignore[reportGeneralTypeIssues]


def loaded(case: GoldenCase, size: ForesightSize) -> StreamNet:
    """Our network with the published weights."""
    net = build_net(gr1(size).stage)
    places = frozenset({"decoder_pos_embed"} & set(case.weights))
    masks = frozenset(name for name in case.weights if any(re.fullmatch(part, name) for part in GR1_UNUSED))
    load_published(net, gr1_names(size), case.weights, unused=places | masks | unasked(case, size))
    if size.video:
        net.get_buffer("codecs.video.decoder.places").copy_(case.weights["decoder_pos_embed"][0])
    return net


def unasked(case: GoldenCase, size: ForesightSize) -> frozenset[str]:
    """Weights of the constructor that the case's targets do not use: the decoder, where no frame is asked for."""
    idle = () if size.video else (r"decoder_.*", r"mask_token")
    return frozenset(name for name in case.weights if any(re.fullmatch(part, name) for part in idle))


@torch.no_grad()
def window_of(case: GoldenCase, size: ForesightSize, net: StreamNet) -> RecordedWindow:
    """The recorded features, as our codecs embed them."""
    given = case.inputs
    t, level = size.image.steps.num, torch.zeros(1, 1)
    features = [[given[f"mae_{kind}_{camera}"] for camera in size.image.cameras] for kind in ("patch", "cls")]
    patches, classes = (rearrange(torch.stack(part, dim=1), "(b t) v ... -> b t v ...", t=t) for part in features)
    state = torch.cat([given["arm_state"], 2 * given["gripper_state"][..., 1:] - 1], dim=-1)  # open or shut
    tokens = {
        "text": net.codec("text").embed(repeat(given["clip_text_feature"], "b c -> b t c", t=t), level),
        "state": net.codec("state").embed(state, level),
        "image": _seeing(net).tokens(patches, classes),
    }
    for name in ("action", "video"):
        if name in net.layout.groups:
            tokens[name] = net.codec(name).embed(
                torch.zeros(len(state), *net.codec(name).latent_shape("noised")), level
            )
    return RecordedWindow(
        net=net,
        tokens=tokens,
        present=given["attention_mask"] > 0,
        groups=tuple(n for n in (*OBSERVED, "action", "video") if n in tokens),
    )


def _seeing(net: StreamNet) -> ResampledCodec:
    codec = net.codec("image")
    assert isinstance(codec, ResampledCodec)
    return codec
