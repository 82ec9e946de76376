"""OpenVLA and VLM2VLA: which pieces of the vocabulary an action is, and who reads whom."""

from __future__ import annotations

from dataclasses import replace

import torch
from nano_batch import ROBOT, nano_batch

from crossroads.build import build
from crossroads.codecs.discrete_actions import DiscreteActionCodec
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.openvla import NANO, PUBLISHED, openvla
from crossroads.streams import Edge


def test_the_published_pieces_of_an_action_are_the_last_of_the_vocabulary() -> None:
    action = replace(PUBLISHED.action, vocabulary=replace(NANO.text.vocabulary), action_size=3, last=319)
    codec = DiscreteActionCodec(replace(action, tokeniser=replace(action.tokeniser, size=256)), width=8)
    tokens = codec.tokens.encode(torch.tensor([[[-1.0, 1.0, -2.0]]]))[0]
    # published: digitize gives 1 for -1 and 256 for 1; a piece is the size of the vocabulary less that
    assert [codec.spec.last - token for token in tokens if codec.spec.last] == [320 - 1, 320 - 256, 320 - 1]
    assert PUBLISHED.action.last == 32000 - 1


def test_published_reads_from_the_first_picture_on_token_by_token() -> None:
    edges = openvla(PUBLISHED).stage.edges
    assert Edge(dst="image", src="image", when="causal") in edges
    assert Edge(dst="text", src="text", when="causal") in edges
    assert {(edge.dst, edge.src) for edge in edges} == {
        *(("start", "start"), ("image", "start"), ("image", "image")),
        *((("text", src)) for src in ("start", "image", "text")),
        *((("action", src)) for src in ("start", "image", "text", "action")),
    }


def test_written_actions_come_back_within_half_of_the_last_digit() -> None:
    policy = build(recipe("vlm2vla"), ROBOT, seed=0)
    codec = policy.net.own_codec("action")
    assert isinstance(codec, DiscreteActionCodec)
    batch = nano_batch(policy.recipe)
    written = codec.target(batch)
    assert (codec.decode(written.values) - batch.held_actions).abs().max() <= 0.5 / 1000 + 1e-6
    texts = [codec.spec.vocabulary.decode(row) for row in written.values.tolist()]
    assert all(set(text.split("]]")[0]) <= set("[]-0123456789, ") for text in texts)
