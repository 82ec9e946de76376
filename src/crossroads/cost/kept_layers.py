"""What the backward pass keeps of one layer of each kind of tower, and of what a tower does outside its layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crossroads.cost.kept import Kept, Pass
from crossroads.towers.bart import Bart, Placed
from crossroads.towers.classic import Classic
from crossroads.towers.cognition import CognitionHead
from crossroads.towers.cosmos import Cosmos
from crossroads.towers.dit import Dit
from crossroads.towers.foundry import Foundry
from crossroads.towers.gemma import Gemma
from crossroads.towers.gemma3 import Gemma3
from crossroads.towers.given import Given
from crossroads.towers.groot import GrootHead, GrootN1Head
from crossroads.towers.jepa import JepaPredictor
from crossroads.towers.llama import Llama, SmolExpert
from crossroads.towers.mimic import MimicExpert
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.motus import MotusExpert
from crossroads.towers.plain import Adapter, Gpt, Plain
from crossroads.towers.qwen import Qwen
from crossroads.towers.wan import Wan


def _wan_layer(spec: Wan, given: Pass) -> Kept:
    """Two modulated layer norms, two outputs before their gates, the normed and turned queries and keys."""
    w, e, n, m = spec.width, spec.attention_width, given.num_tokens, given.num_context
    told = 8 * w if given.num_levels > 1 else 0  # modulation per token, where groups have levels of their own
    kept = Kept(narrow=n * (4 * w + told + 3 * e + 2 * spec.mlp), wide=n * (4 * w + 4 * e))
    return kept + (Kept(narrow=n * (w + 2 * e) + m * 2 * e, wide=n * (w + 2 * e) + m * 2 * e) if m else Kept())


def _cosmos_layer(spec: Cosmos, given: Pass) -> Kept:
    """Two or three modulated layer norms, their outputs before the gates, the normed and turned queries and keys."""
    w, e, n, m, parts = spec.width, spec.attention_width, given.num_tokens, given.num_context, spec.num_parts
    told = 4 * w * parts if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (2 * parts * w + told + 3 * e + 2 * spec.mlp), wide=n * (2 * parts * w + 4 * e))
    return kept + (Kept(narrow=n * 2 * e + m * 2 * e, wide=n * e + m * e) if m else Kept())


def _gemma_layer(spec: Gemma, given: Pass) -> Kept:
    """Adaptive: outputs before their gates as well, and of tokens with levels of their own what those give them. Where
    products are narrower, queries and keys each cast the cosines and sines that turn them."""
    w, e, n = spec.width, spec.heads * spec.head_dim, given.num_tokens
    kept = Kept(narrow=n * (2 * w + 3 * e + 4 * spec.mlp), wide=n * 4 * w, cast=n * 4 * spec.head_dim)
    if spec.normed:
        kept += Kept(wide=n * (spec.heads + spec.kv_heads) * spec.head_dim * 2)
    if not spec.adaptive:
        return kept
    told = given.num_levels > 1
    return kept + Kept(narrow=n * (8 * w if told else 2 * w), wide=n * 2 * w if told else 0)


def _gemma3_layer(spec: Gemma3, given: Pass) -> Kept:
    """Two norms more."""
    w, n = spec.width, given.num_tokens
    return _gemma_layer(spec, given) + Kept(narrow=n * 2 * w, wide=n * 4 * w)


def _dit_layer(spec: Dit, given: Pass) -> Kept:
    """Two modulated layer norms and their outputs before the gates."""
    w, n = spec.width, given.num_tokens
    told = 8 * w if not spec.num_levels and given.num_levels > 1 else 0
    return Kept(narrow=n * (4 * w + told + 3 * w + 2 * spec.mlp), wide=n * 4 * w)


def _plain_layer(spec: Plain, given: Pass) -> Kept:
    w, n = spec.width, given.num_tokens
    return Kept(narrow=n * (2 * w + 3 * w + 2 * spec.mlp), wide=n * 2 * w)


def _foundry_layer(spec: Foundry, given: Pass) -> Kept:
    """As a plain one, with turned queries and keys beside the product that values are a part of; a gated network keeps
    both of its halves, the gate behind SiLU and their product."""
    w, n = spec.width, given.num_tokens
    inner = (4 if spec.gated else 2) * spec.mlp
    normed = 2 * w if spec.norm_heads else 0
    return Kept(narrow=n * (2 * w + 5 * w + normed + inner), wide=n * (2 * w + normed))


def _jepa_layer(spec: JepaPredictor, given: Pass) -> Kept:
    """As a plain one, with turned queries and keys beside the product that values are a part of."""
    w, n = spec.width, given.num_tokens
    return Kept(narrow=n * (2 * w + 5 * w + 2 * spec.mlp), wide=n * 2 * w)


def _classic_layer(spec: Classic, given: Pass) -> Kept:
    """Norms and sums, and what placed queries and keys are made of; across, the same once more. The few vectors for the
    places of what is read across are not counted."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    sums = 4 * w if spec.norm_first else 0  # norms behind the sums leave them as narrow as the products
    kept = Kept(narrow=n * (9 * w - sums + spec.mlp), wide=n * sums)
    return kept + (Kept(narrow=n * 5 * w + m * 2 * w, cast=2 * m * w) if m else Kept())


def _molmo_layer(spec: MolmoExpert, given: Pass) -> Kept:
    """Three modulated norms and their outputs before the gates, all queries and keys normed and turned, a gated
    network; what is read, mapped and normed."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 18 * w if given.num_levels > 1 else 0
    normed = 3 * w if spec.norm_heads else 0
    kept = Kept(narrow=n * (17 * w + told + 4 * spec.mlp), wide=n * (3 * w + normed))
    read = (2 if spec.norm_context else 0) + (1 if spec.norm_heads else 0)
    return kept + Kept(narrow=m * (2 * w + 2 * spec.key_width), wide=m * read * w)


def _motus_layer(spec: MotusExpert, given: Pass) -> Kept:
    """As Wan's without rotation and reading across; without levels, two plain layer norms and no gates."""
    w, e, n = spec.width, spec.attention_width, given.num_tokens
    told = 8 * w if spec.acts and given.num_levels > 1 else 0
    gated = 4 * w if spec.acts else 2 * w
    wide = 4 * w if spec.acts else 2 * w
    return Kept(narrow=n * (gated + told + 3 * e + 2 * spec.mlp), wide=n * (wide + 2 * e))


def _mimic_layer(spec: MimicExpert, given: Pass) -> Kept:
    """Three modulated layer norms and their outputs before the gates, all queries and keys normed, what is read."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 12 * w if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (7 * w + told + 6 * w + 2 * spec.mlp), wide=n * (6 * w + 6 * w))
    return kept + Kept(narrow=m * 2 * w, wide=m * 2 * w)


def _groot_layer(spec: GrootHead, given: Pass) -> Kept:
    """Two halves, each with two layer norms, the first of them modulated; what the first half reads."""
    w, n, m = spec.width, given.num_tokens, given.num_context
    told = 4 * w if given.num_levels > 1 else 0
    kept = Kept(narrow=n * (2 * told + 9 * w + 4 * spec.mlp), wide=n * 4 * w)
    return kept + Kept(narrow=2 * m * w)


def _groot_n1_layer(spec: GrootN1Head, given: Pass) -> Kept:
    """The same over final states, which are float32: each layer's keys and its values copy them anew."""
    return _groot_layer(spec, given) + Kept(cast=2 * given.num_context * spec.context_width)


def _given_layer(spec: Given, given: Pass) -> Kept:
    return Kept()


LAYERS: Mapping[type, Callable[[Any, Pass], Kept]] = {
    Adapter: _plain_layer,
    Bart: _plain_layer,
    Classic: _classic_layer,
    CognitionHead: _plain_layer,
    Cosmos: _cosmos_layer,
    Dit: _dit_layer,
    Foundry: _foundry_layer,
    Gemma: _gemma_layer,
    Given: _given_layer,
    Gpt: _plain_layer,
    Gemma3: _gemma3_layer,
    GrootHead: _groot_layer,
    GrootN1Head: _groot_n1_layer,
    JepaPredictor: _jepa_layer,
    Llama: _gemma_layer,
    MimicExpert: _mimic_layer,
    MolmoExpert: _molmo_layer,
    MotusExpert: _motus_layer,
    Placed: _plain_layer,
    Plain: _plain_layer,
    Qwen: _gemma_layer,
    SmolExpert: _gemma_layer,
    Wan: _wan_layer,
}


def frame(spec: Any, given: Pass) -> Kept:
    """Outside the layers: the last norm, and for Wan the projected context."""
    w, n = spec.width, given.num_tokens
    if isinstance(spec, Classic):  # what is read across is the same for all layers
        return Kept(narrow=given.num_context * w)
    if isinstance(spec, Wan):
        return Kept(narrow=given.num_context * 3 * w, wide=n * 3 * w if spec.modulated_head else 0)
    if isinstance(spec, MimicExpert):  # the norm of what is read as well
        read = given.num_context * spec.context_width
        return Kept(narrow=read, wide=n * 3 * w + read)
    if isinstance(spec, Cosmos | Dit | GrootHead):
        return Kept(wide=n * 3 * w)
    if isinstance(spec, JepaPredictor):  # what is read across on entry, and the last norm
        return Kept(narrow=given.num_context * spec.context_width, wide=n * 2 * w)
    if isinstance(spec, MotusExpert):
        return Kept(wide=n * 3 * w if spec.acts else 0)
    if isinstance(spec, Gpt):  # a norm on entry, too
        return Kept(wide=n * 3 * w)
    return Kept(wide=n * 2 * w) if isinstance(spec, Gemma | Plain) else Kept()
