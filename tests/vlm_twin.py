"""A vision-language model of the library transformers, tiny and random, and the same network made of our parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from crossroads.build import build_net
from crossroads.codecs.spec import Latent
from crossroads.codecs.text import TextTokens, Vocabulary
from crossroads.net import StreamNet
from crossroads.objectives import TokenCE
from crossroads.parity.recorded import embedded, load_published
from crossroads.recipes.names import Renamed, imported
from crossroads.stage import Stage, Tower
from crossroads.streams import Edge, Stream, reads
from crossroads.towers.spec import TowerSpec

NUM_WORDS = 40
"""Pieces of the vocabulary; the last ones stand for pictures and their marks."""
TEXT = TextTokens(vocabulary=Vocabulary(words=()), max_tokens=9, answer=True)  # 259 pieces


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Scores of the real tokens of the text, and the gradients of a weighted sum of them, under our names."""

    scores: Tensor
    grads: dict[str, Tensor]


def causal(*groups: str) -> tuple[Edge, ...]:
    """Each group reads those before it, and itself token by token."""
    return tuple(
        edge
        for index, group in enumerate(groups)
        for edge in (*reads(group, *groups[:index]), Edge(dst=group, src=group, when="causal"))
    )


def alone(image: Any, language: TowerSpec, edges: tuple[Edge, ...], text: TextTokens = TEXT) -> StreamNet:
    """Pictures and words in one tower; without ``image`` words alone."""
    shown = () if image is None else (Stream(name="image", carries="image", codec=image, tower="language"),)
    words = Stream(
        name="text", carries="text", codec=text, tower="language", objective=TokenCE(start_token=1, end_token=2)
    )
    sequence = ("image", "text") if shown else ("text",)
    towers = (Tower(name="language", spec=language),)
    stage = Stage(name="alone", streams=(*shown, words), edges=edges, towers=towers, schedule=(), sequence=sequence)
    return build_net(stage)


@torch.no_grad()
def shaken(module: torch.nn.Module, std: float = 0.1) -> None:
    """Weights away from their first values, norms' as well."""
    generator = torch.Generator().manual_seed(5)
    for weight in module.parameters():
        weight.add_(std * torch.randn(weight.shape, generator=generator))


def words(batch: int, padded: int) -> Latent:
    """A sample's words; the last sample lacks ``padded`` of them."""
    ids = torch.randint(3, 200, (batch, TEXT.max_tokens), generator=torch.Generator().manual_seed(1))
    valid = torch.ones_like(ids).bool()
    valid[-1, TEXT.max_tokens - padded :] = False
    return Latent(values=ids, valid=valid)


def weighted(scores: Tensor, valid: Tensor) -> Tensor:
    """A sum in which no two scores weigh the same."""
    weights = torch.randn(scores.shape, generator=torch.Generator().manual_seed(2))
    return (scores * weights * valid.unsqueeze(-1)).sum()


def ours(net: StreamNet, latents: dict[str, Latent]) -> Answer:
    """Scores over the vocabulary of every word's place."""
    net.zero_grad()
    states = net(embedded(net, latents, {}, latents), {})
    scores = net.codec("text").read(states["text"].hidden)
    weighted(scores, latents["text"].valid).backward()
    places = net.weight_names({"language"})
    parameters = dict(net.named_parameters())
    grads = {public: parameters[place].grad for public, place in places.items()}
    found = {name: torch.zeros(1) if grad is None else grad for name, grad in grads.items()}
    return Answer(scores=scores.detach()[latents["text"].valid], grads=found)


def theirs(model: Any, names: Iterable[Renamed], scores: Tensor, valid: Tensor) -> Answer:
    """What transformers' model gave for the same words."""
    model.zero_grad()
    weighted(scores, valid).backward()
    grads = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in model.named_parameters(remove_duplicate=False)
    }
    return Answer(scores=scores.detach()[valid], grads=imported(names, grads))


def load(net: StreamNet, names: Iterable[Renamed], model: Any, *unused: str) -> None:
    load_published(net, names, model.state_dict(), unused=frozenset(unused))


def equal(one: Answer, other: Answer, rows: Mapping[str, int] = MappingProxyType({})) -> None:
    """Scores and gradients agree to 1e-5 of their largest. ``rows``: weights of ours that are rows of the table there,
    whose gradients are a part of the table's."""
    torch.testing.assert_close(one.scores, other.scores, rtol=0, atol=1e-5 * float(other.scores.abs().max()))
    assert one.grads.keys() == other.grads.keys()
    table = one.grads["codecs.text.table.weight"].clone()
    for name, row in rows.items():
        table[row] += one.grads[name][0]
    for name in other.grads.keys() - rows.keys():
        found, wanted = table if name == "codecs.text.table.weight" else one.grads[name], other.grads[name]
        most = 1e-5 * max(1.0, float(wanted.abs().max()))
        error = float((found - wanted).abs().max())
        assert error <= most, f"{name}: {error:.2e} above {most:.2e}"
