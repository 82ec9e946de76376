"""pi0-FAST as recorded from LeRobot's PyTorch code (Pertsch et al. 2025, arXiv 2501.09747; Apache-2.0).

A case holds one training step on given tokens, and greedy decoding, in which LeRobot puts the start mark into the
prompt, whose tokens all read each other; our recipe acts as it is trained, so the runner writes LeRobot's way itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from einops import rearrange, reduce
from jaxtyping import Bool
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.fast import Fast
from crossroads.codecs.spec import Latent
from crossroads.net import StreamNet
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced
from crossroads.parity.pi0 import gemma_of, patches_of, pictures_of
from crossroads.parity.recorded import embedded, load_published, mask_between
from crossroads.recipes.names import pi0_fast_names
from crossroads.recipes.pi0_fast import PUBLISHED, Pi0FastSize, pi0_fast
from crossroads.streams import Corrupted

GROUPS = ("image", "text", "action")
UNUSED = frozenset({"paligemma_with_expert.paligemma.lm_head.weight"})
"""Where it is tied to the table of words."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights; the action's latent is what the network reads."""

    case: GoldenCase
    size: Pi0FastSize
    net: StreamNet
    latents: Mapping[str, Latent]

    @property
    def pad_mask(self) -> Bool[Tensor, "b n"]:
        return torch.cat([self.latents[name].valid for name in GROUPS], dim=1)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records. What padding answers is read by nobody."""
    prepared = prepare(case)
    outputs = {**_stepped(prepared), **_written(prepared), **_masks(prepared)}
    answered = rearrange(prepared.latents["action"].valid, "b n -> b n 1")
    return Produced(outputs=outputs, counts={"action_logits": answered, "position_ids": prepared.pad_mask})


def prepare(case: GoldenCase) -> Prepared:
    """The recipe at the case's size, with the published weights and the recorded inputs."""
    size, given = size_of(case), case.inputs
    net = build_net(pi0_fast(size).stage).eval()
    load_published(net, pi0_fast_names(size), case.weights, unused=UNUSED if size.text.tied else frozenset())
    latents = {
        "image": pictures_of(case, size.image),
        "text": Latent(values=given["tokens"], valid=given["token_mask"].bool()),
        "action": Latent(values=given["action_tokens"], valid=given["action_token_mask"].bool()),
    }
    return Prepared(case=case, size=size, net=net, latents=latents)


def size_of(case: GoldenCase) -> Pi0FastSize:
    """The published size with the numbers of a recorded case; its byte pairs are not recorded, its tokens are."""
    made = case.meta["constructor"]
    vocabulary = replace(PUBLISHED.text.vocabulary, size=made["vocab_size"], start=made["bos_token_id"])
    return replace(
        PUBLISHED,
        image=patches_of(case),
        text=replace(
            PUBLISHED.text,
            vocabulary=vocabulary,
            max_tokens=case.inputs["tokens"].shape[1],
            tied=bool(case.meta["tied_weights"]),
        ),
        action=replace(
            PUBLISHED.action,
            vocabulary=vocabulary,
            tokeniser=Fast(size=vocabulary.size),
            last=vocabulary.size - 1,
            most=case.inputs["action_tokens"].shape[1],
        ),
        next_token=replace(PUBLISHED.next_token, start_token=vocabulary.start),
        language=gemma_of(made["gemma"], made),
    )


@torch.no_grad()
def _stepped(prepared: Prepared) -> dict[str, Tensor]:
    """The training step. LeRobot's loss is the mean over the tokens of all samples, ours over those of each."""
    net, action = prepared.net, prepared.latents["action"]
    inputs = embedded(net, prepared.latents, {}, GROUPS)
    answer = net.codec("action").read(net(inputs, {})["action"].hidden)
    owed = Corrupted(latent=action.values[:, :-1], level=torch.zeros(len(answer), 1), target=action.values[:, 1:])
    valid = action.valid[:, 1:]
    each = prepared.size.next_token.loss(answer[:, :-1], owed, valid)
    share = reduce(valid.float(), "b n -> b", "sum") / valid.sum()
    return {
        "loss": (each * share).sum(),
        "action_logits": answer,
        "input_embs": torch.cat([inputs[name].tokens for name in GROUPS], dim=1),
        "position_ids": torch.cat([inputs[name].places.index for name in GROUPS], dim=1),
    }


@torch.no_grad()
def _written(prepared: Prepared) -> dict[str, Tensor]:
    """Greedy decoding behind a prompt that ends with the start mark."""
    net, text, made = prepared.net, prepared.latents["text"], prepared.case.meta["constructor"]
    start = torch.full_like(text.values[:, :1], made["bos_token_id"])
    there = torch.ones_like(start, dtype=torch.bool)
    begun = Latent(values=torch.cat([text.values, start], dim=1), valid=torch.cat([text.valid, there], dim=1))
    seen = {"image": prepared.latents["image"], "text": begun}
    states = net(embedded(net, seen, {}, seen), {})
    scores = [net.codec("text").read(states["text"].hidden[:, -1:])]
    written = [scores[0].argmax(dim=-1)]
    while len(written) < made["decoding_steps"]:
        valid = {name: latent.valid for name, latent in seen.items()}
        valid["action"] = torch.ones(len(start), len(written), dtype=torch.bool)
        token = net.embed("action", written[-1], torch.zeros(len(start), 1), valid, offset=len(written) - 1)
        states |= net({"action": token}, states)
        scores.append(net.codec("action").read(states["action"].hidden[:, -1:]))
        written.append(scores[-1].argmax(dim=-1))
    return {"greedy_tokens": torch.cat(written, dim=1), "greedy_logits": torch.cat(scores, dim=1)}


def _masks(prepared: Prepared) -> dict[str, Tensor]:
    """Who reads whom."""
    num = {name: latent.valid.shape[1] for name, latent in prepared.latents.items()}
    order = [(name, number) for name in GROUPS for number in range(num[name])]
    seen, pad = mask_between(prepared.net.layout, num, order), prepared.pad_mask
    return {"attention_mask": seen & pad[:, None, :] & pad[:, :, None], "pad_mask": pad}
