"""Knowledge insulation as recorded from OpenTau's pi0.5 (arXiv 2505.23705; Apache-2.0): losses, what they read and what
their gradients reach, with the cut and without, and with a part of the chunk given (training-time real-time chunking).

OpenTau writes actions with a table and a head of its own, behind an indicator in words; both are built here beside
pi0.5's streams, as the recipe writes them in the language model's vocabulary. Its two passes are one of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from crossroads.build import build_net
from crossroads.codecs.spec import Latent
from crossroads.codecs.text import TextTokens
from crossroads.net import StreamNet
from crossroads.noise import corrupt, velocity
from crossroads.objectives import Flow, TokenCE
from crossroads.parity.case import GoldenCase, Named
from crossroads.parity.compare import Produced
from crossroads.parity.pi0 import patches_of, pictures_of, vocabulary_of
from crossroads.parity.recorded import all_valid, embedded, joint_of, load_published, mask_between
from crossroads.recipes.names import Renamed, exported, pi05_names, weight_of
from crossroads.recipes.pi05 import pi05
from crossroads.recipes.pi05_sizes import PUBLISHED, Pi05Size
from crossroads.stage import Stage
from crossroads.streams import Corrupted, Edge, Stream, reads
from crossroads.towers.gemma import Gemma, GemmaFrame
from crossroads.towers.group import GroupInput, GroupState

PREFIX = ("image", "text")
WORDS = (*PREFIX, "indicator", "fast")
HEAD = "paligemma_with_expert.da_head"
TABLE = weight_of("codecs.fast.table", "paligemma_with_expert.discrete_action_embedding")
UNUSED = frozenset({"paligemma_with_expert.paligemma.lm_head.weight"})
"""Tied to the table of words."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recorded case beside our network with its weights and OpenTau's head of tokens."""

    case: GoldenCase
    size: Pi05Size
    net: StreamNet
    head: nn.Linear
    latents: Mapping[str, Latent]
    names: tuple[Renamed, ...]

    @property
    def pad_mask(self) -> Bool[Tensor, "b n"]:
        return torch.cat([self.latents[name].valid for name in WORDS], dim=1)

    def inputs(self, level: Float[Tensor, "b l"]) -> dict[str, GroupInput]:
        """All groups, the actions at a level."""
        given = self.case.inputs
        spread = level.unsqueeze(-1)
        noisy = all_valid(corrupt(given["actions"], given["noise"], spread))
        return embedded(self.net, {**self.latents, "action": noisy}, {"action": level}, (*WORDS, "action"))

    def answered(self, states: Mapping[str, GroupState]) -> Float[Tensor, "b n a"]:
        """The velocity."""
        return self.net.codec("action").read(states["action"].hidden)

    def scores(self, states: Mapping[str, GroupState]) -> Float[Tensor, "b n v"]:
        """The last word before the tokens predicts the first of them."""
        hidden = torch.cat([states["indicator"].hidden[:, -1:], states["fast"].hidden[:, :-1]], dim=1)
        return self.head(hidden)


def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    cut, joined = prepare(case, insulated=True), prepare(case, insulated=False)
    pad = cut.pad_mask
    outputs = {**_words(cut), **_expert(cut), **_chunked(cut)}
    outputs |= _lessons(cut, "insulated") | _lessons(joined, "not_insulated")
    num = sum(cut.latents[name].valid.shape[1] for name in PREFIX)
    asked = torch.cat([cut.latents["indicator"].valid[:, -1:], cut.latents["fast"].valid[:, :-1]], dim=1)
    counts = {name: pad[:, :num, None, None] for name in outputs if name.startswith("cross_")}
    counts |= {"vlm_position_ids": pad, "vlm_last_hidden": pad[..., None], "discrete_logits": asked[..., None]}
    return Produced(outputs=outputs, counts=counts)


def prepare(case: GoldenCase, *, insulated: bool) -> Prepared:
    """pi0.5 at the case's size, with actions in words, the published weights and the recorded inputs."""
    size, given = size_of(case), case.inputs
    made = case.meta["constructor"]
    net = build_net(stage_of(size, made, insulated=insulated)).eval()
    names = (*pi05_names(size), TABLE)
    load_published(net, names, case.weights, unused=UNUSED | {f"{HEAD}.weight", f"{HEAD}.bias"})
    head = nn.Linear(size.language.width, made["discrete_action_vocab_size"])
    head.load_state_dict({part: case.weights[f"{HEAD}.{part}"] for part in ("weight", "bias")})
    indicator = repeat(given["indicator_tokens"], "n -> b n", b=len(given["tokens"]))
    latents = {
        "image": pictures_of(case, size.image),
        "text": Latent(values=given["tokens"], valid=given["token_mask"].bool()),
        "indicator": all_valid(indicator),
        "fast": Latent(values=given["discrete_actions"], valid=given["discrete_action_mask"].bool()),
    }
    return Prepared(case=case, size=size, net=net, head=head, latents=latents, names=names)


def size_of(case: GoldenCase) -> Pi05Size:
    """The published size with the numbers of a recorded case."""
    made = case.meta["constructor"]
    expert = made["expert_gemma"]
    expert.demand({"adarms": True, "adarms_cond_dim": expert["hidden_size"]})
    made.demand({"dropout": 0.0, "proj_width": expert["hidden_size"]})
    num = made["max_action_dim"]
    return replace(
        PUBLISHED,
        image=patches_of(case),
        text=replace(
            PUBLISHED.text,
            vocabulary=vocabulary_of(made),
            max_tokens=case.inputs["tokens"].shape[1],
            num_state=num,
        ),
        subtask=None,
        action=replace(PUBLISHED.action, num_actions=made["chunk_size"], action_size=num),
        language=_gemma(made["vlm_gemma"]),
        expert=replace(_gemma(expert), adaptive=True),
    )


def _gemma(spec: Named[Any]) -> Gemma:
    return Gemma(
        width=spec["hidden_size"],
        mlp=spec["intermediate_size"],
        depth=spec["num_hidden_layers"],
        heads=spec["num_attention_heads"],
        kv_heads=spec["num_key_value_heads"],
        head_dim=spec["head_dim"],
    )


def stage_of(size: Pi05Size, made: Named[Any], *, insulated: bool) -> Stage:
    """pi0.5 without a subtask, and OpenTau's actions in words beside it."""
    base = pi05(size).stage
    vocabulary = replace(vocabulary_of(made), size=made["discrete_action_vocab_size"])
    indicator = TextTokens(vocabulary=size.text.vocabulary, max_tokens=made["discrete_action_indicator_max_length"])
    fast = TextTokens(vocabulary=vocabulary, max_tokens=made["discrete_action_max_length"])
    read = (
        edge if edge.dst != "action" or edge.src == "action" else replace(edge, grad=not insulated)
        for edge in base.edges
    )
    return replace(
        base,
        streams=(
            *base.streams,
            Stream(name="indicator", carries="text", codec=indicator, tower="language", shares="text"),
            Stream(name="fast", carries="text", codec=fast, tower="language"),
        ),
        edges=(
            *read,
            *reads("indicator", *PREFIX),
            *reads("fast", *PREFIX, "indicator"),
            *(Edge(dst=name, src=name, when="causal") for name in ("indicator", "fast")),
        ),
        sequence=(*WORDS, "action"),
    )


@torch.no_grad()
def _words(prepared: Prepared) -> dict[str, Tensor]:
    """The language model's pass."""
    net, latents, pad = prepared.net, prepared.latents, prepared.pad_mask
    inputs = embedded(net, latents, {}, WORDS)
    states = net(inputs, {})
    num = {name: latent.valid.shape[1] for name, latent in latents.items()}
    order = [(name, number) for name in WORDS for number in range(num[name])]
    seen = mask_between(net.layout, num, order)
    found = {
        "prefix_embs": torch.cat([inputs[name].tokens for name in WORDS], dim=1),
        "prefix_pad_mask": pad,
        "vlm_attention_mask": seen & pad[:, None, :] & pad[:, :, None],
        "vlm_position_ids": torch.cat([inputs[name].places.index for name in WORDS], dim=1),
        "vlm_last_hidden": torch.cat([states[name].hidden for name in WORDS], dim=1),
    }
    for layer in range(prepared.size.language.depth):
        found[f"cross_key_layer{layer}"] = torch.cat([states[name].keys[layer] for name in PREFIX], dim=1)
        found[f"cross_value_layer{layer}"] = torch.cat([states[name].values[layer] for name in PREFIX], dim=1)
    return found


@torch.no_grad()
def _expert(prepared: Prepared) -> dict[str, Tensor]:
    """What the expert is given: tokens, places, keys, and the level that its norms are told."""
    given, net = prepared.case.inputs, prepared.net
    action = prepared.inputs(given["time"][:, None])["action"]
    num_actions = action.tokens.shape[1]
    num = {name: latent.valid.shape[1] for name, latent in prepared.latents.items()} | {"action": num_actions}
    read = [(name, number) for name in (*PREFIX, "action") for number in range(num[name])]
    seen = mask_between(net.layout, num, read)[-num_actions:]
    valid = torch.cat([*(prepared.latents[name].valid for name in PREFIX), action.valid], dim=1)
    frame = joint_of(net, "expert").frames["expert"]
    assert isinstance(frame, GemmaFrame)
    return {
        "suffix_embs": action.tokens,
        "adarms_cond": repeat(frame.told(given["time"][:, None]), "b 1 w -> b n w", n=num_actions),
        "expert_attention_mask": seen & valid[:, None, :],
        "expert_position_ids": action.places.index,
    }


def _flow(prepared: Prepared, answer: Tensor, level: Tensor, valid: Tensor) -> Tensor:
    """The flow loss as OpenTau takes it: over all steps that count, of all samples together."""
    given, objective = prepared.case.inputs, Flow()
    owed = Corrupted(latent=answer, level=level, target=velocity(given["actions"], given["noise"]))
    num = valid.sum(dim=1)
    return (objective.loss(answer, owed, valid) * num).sum() / num.sum()


@torch.no_grad()
def _chunked(prepared: Prepared) -> dict[str, Tensor]:
    """Real-time chunking in training, and a chunk that ends before its time."""
    given, net = prepared.case.inputs, prepared.net
    level = given["time"][:, None]
    whole = prepared.answered(net(prepared.inputs(level), {}))
    each = repeat(level, "b 1 -> b n", n=whole.shape[1])
    begun = torch.arange(whole.shape[1]) < given["rtc_delay"][:, None]
    each = each.masked_fill(begun, 0.0)
    answer = prepared.answered(net(prepared.inputs(each), {}))
    return {
        "padded_flow_loss": _flow(prepared, whole, level, ~given["actions_is_pad"].bool()),
        "rtc_velocity": answer,
        "rtc_flow_loss": _flow(prepared, answer, each, ~begun),
    }


def _lessons(prepared: Prepared, name: str) -> dict[str, Tensor]:
    """Both losses, and the gradients of each alone by published tensor."""
    given, net = prepared.case.inputs, prepared.net
    level = given["time"][:, None]
    states = net(prepared.inputs(level), {})
    answer, scores = prepared.answered(states), prepared.scores(states)
    fast = prepared.latents["fast"]
    tokens = Corrupted(latent=fast.values, level=torch.zeros_like(level), target=fast.values)
    errors = TokenCE(start_token=0, end_token=0).loss(scores, tokens, fast.valid) * fast.valid.sum(dim=1)
    flow = _flow(prepared, answer, level, torch.ones_like(answer[..., 0], dtype=torch.bool))
    words = errors.sum() / fast.valid.numel()  # padded slots count in the mean, with nothing
    found = {
        f"{name}_flow_loss": flow.detach(),
        f"{name}_ce_loss": words.detach(),
        f"{name}_velocity": answer.detach(),
    }
    for lesson, loss in (("flow", flow), ("ce", words)):
        gradients = _gradients(prepared, loss)
        order = prepared.case.meta["gradient_vector_order"]
        found[f"{name}_{lesson}_grad_norm"] = torch.stack([gradients[one].norm() for one in order])
        found[f"{name}_{lesson}_grad_is_zero"] = torch.stack([~gradients[one].any() for one in order])
        key = "paligemma_with_expert.paligemma.model.language_model.layers.0.self_attn.k_proj.weight"
        if name == "not_insulated" and lesson == "flow":
            found["not_insulated_flow_grad_vlm_layer0_k_proj"] = gradients[key]
        if name == "insulated":
            found |= {"discrete_logits": scores.detach()}
            found |= {"flow_grad_action_in_proj": gradients["action_in_proj.weight"]} if lesson == "flow" else {}
            found |= {"ce_grad_vlm_layer0_k_proj": gradients[key]} if lesson == "ce" else {}
    return found


def _gradients(prepared: Prepared, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of each published tensor; zeros where none arrives."""
    places = prepared.net.weight_names({"language", "expert"})
    weights = dict(prepared.net.named_parameters())
    ours = {entry.ours: weights[places[entry.ours]] for entry in prepared.names}
    head = {f"{HEAD}.{part}": weight for part, weight in prepared.head.named_parameters()}
    wanted = [*ours.values(), *head.values()]
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    filled = [torch.zeros_like(w) if grad is None else grad for w, grad in zip(wanted, found, strict=True)]
    named = dict(zip([*ours, *head], filled, strict=True))
    return {**exported(prepared.names, {name: named[name] for name in ours}), **{name: named[name] for name in head}}
