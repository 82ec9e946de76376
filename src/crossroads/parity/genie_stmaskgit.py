"""1X's open dynamics model in Genie's manner as recorded from its published class (``1xgpt``, Apache-2.0)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from crossroads.codecs.masked_clip import MaskedClip, MaskedClipNet
from crossroads.codecs.space_time import SpaceTime
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.recorded import hearing, load_module
from crossroads.recipes.motion_names import masked_clip_names

STRIDE = 17
"""Of the recorded scores every so manieth channel is kept (``logits`` in meta.json)."""


def spec_of(case: GoldenCase) -> MaskedClip:
    """Our value with the numbers of a recorded case; biases are those that are recorded."""
    made = case.meta["constructor"]
    made.demand({"use_mup": False, "attn_drop": 0.0, "mlp_drop": 0.0})
    width, digits = made["d_model"], made["num_factored_vocabs"]
    layer = "decoder.layers.0"
    return MaskedClip(
        num_frames=made["T"],
        num_tokens=made["S"],
        base=round(made["image_vocab_size"] ** (1 / digits)),
        num_digits=digits,
        blocks=SpaceTime(
            width=width,
            heads=made["num_heads"],
            mlp=case.weights[f"{layer}.mlp.fc1.weight"].shape[0],
            depth=made["num_layers"],
            time_norm=False,
            qk_norm=made["qk_norm"],
            qkv_bias=f"{layer}.spatial_attn.qkv.bias" in case.weights,
            out_bias=f"{layer}.spatial_attn.proj.bias" in case.weights,
            mlp_bias=f"{layer}.mlp.fc1.bias" in case.weights,
        ),
    )


def prepare(case: GoldenCase) -> MaskedClipNet:
    """Our network with the recorded weights."""
    net = MaskedClipNet(spec_of(case)).eval()
    load_module(net, masked_clip_names(net.spec), case.weights)
    return net


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    net, given = prepare(case), case.inputs
    spec = net.spec
    tokens, labels = (given[name].unflatten(1, (spec.num_frames, -1)) for name in ("input_ids", "labels"))
    with hearing(net.blocks.blocks[0]) as heard:
        scores = net(tokens)
    error, right = net.errors(scores, labels)
    masked = (tokens == spec.mask)[:, 1:]
    side = round(spec.num_tokens**0.5)

    def channels(x: Tensor) -> Tensor:
        return rearrange(x, "b t (h w) c -> b c t h w", h=side)

    random, first = written(net, case)
    return Produced(
        outputs={
            "logits_slice": channels(scores.flatten(3))[:, ::STRIDE],
            "logits_logsumexp": channels(scores.logsumexp(dim=-1)),
            "logits_argmax": channels(scores.argmax(dim=-1)),
            "loss": ((error[:, 1:] * masked).sum() / masked.sum())[None],
            "acc": ((right[:, 1:] * masked).sum() / masked.sum())[None],
            "layer0_out": heard[0],
            "generated_random_order": random.flatten(1),
            "generated_greedy_order_first_new_frame": first.unflatten(1, (side, side)),
        }
    )


def written(net: MaskedClipNet, case: GoldenCase) -> tuple[Tensor, Tensor]:
    """All new frames with tokens kept in the recorded random order; and the first one with the surest kept first."""
    given, spec, steps = case.inputs, net.spec, int(case.inputs["maskgit_steps"])
    prompt = given["prompt"].unflatten(1, (-1, spec.num_tokens))
    tokens = torch.full((len(prompt), spec.num_frames, spec.num_tokens), spec.mask)
    tokens[:, : prompt.shape[1]] = prompt
    first = net.write(tokens, prompt.shape[1], steps, lambda sure: sure)
    draws = iter(given["unmask_uniform"].flatten(2))
    for frame in range(prompt.shape[1], spec.num_frames):
        guesses = iter([next(draws) for _ in range(steps - 1)])
        tokens[:, frame] = net.write(tokens, frame, steps, lambda _, drawn=guesses: next(drawn))
    return tokens, first
