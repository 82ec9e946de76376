"""Frames encoded as they arrive give the latents of the whole clip, whatever the portions, and the past is a value."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from wan_twin import FORMS, WanForm, tiny_wan

from crossroads.codecs import published
from crossroads.codecs.streaming import EncoderState, encode_chunks, encode_stream
from crossroads.codecs.video_autoencoder import NanoAutoencoder, NanoAutoencoderNet
from crossroads.codecs.wan_autoencoder import WanAutoencoderNet
from crossroads.errors import InputError

SPLITS = [(1, 4, 4), (9,), (5, 4), (2, 1, 1, 4, 1), (1,) * 9]


def clip(frames: int, hw: tuple[int, int] = (16, 24), batch: int = 2) -> Tensor:
    return torch.rand(batch, frames, *hw, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1


def nano() -> NanoAutoencoderNet:
    """Random weights, and statistics that are not those of a fresh net."""
    torch.manual_seed(0)
    net = NanoAutoencoderNet(NanoAutoencoder(channels=4, width=8))
    net.mean.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    net.std.copy_(torch.tensor([0.5, 1.0, 2.0, 4.0]))
    return net


@settings(max_examples=40)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6))
@torch.no_grad()
def test_the_embedded_autoencoder_streams_what_it_makes_of_the_whole_clip(sizes: list[int]) -> None:
    net, pixels, state, found = nano(), clip(sum(sizes)), EncoderState(), []
    for part in pixels.split(sizes, dim=1):
        latents, state = encode_stream(net, part, state)
        found.append(latents)
    whole = 1 + (sum(sizes) - 1) // 4 * 4
    torch.testing.assert_close(torch.cat(found, dim=1), net.encode(pixels[:, :whole]), atol=1e-6, rtol=1e-5)
    assert state.num_pending == sum(sizes) - whole


@torch.no_grad()
def test_a_state_is_a_value_so_a_clip_can_branch() -> None:
    net, one = nano(), clip(9)
    other = torch.cat([one[:, :5], -one[:, 5:]], dim=1)
    _, shared = encode_stream(net, one[:, :5], EncoderState())
    for pixels in (one, other, one):
        latents, _ = encode_stream(net, pixels[:, 5:], shared)
        torch.testing.assert_close(latents, net.encode(pixels)[:, 2:], atol=1e-6, rtol=1e-5)


@torch.no_grad()
def test_some_clips_of_a_batch_go_on_as_they_would_have() -> None:
    net, pixels, chosen = nano(), clip(9, batch=3), torch.tensor([2, 0])
    _, state = encode_stream(net, pixels[:, :7], EncoderState())
    latents, _ = encode_stream(net, pixels[chosen, 7:], state.rows(chosen))
    torch.testing.assert_close(latents, net.encode(pixels)[chosen, 2:], atol=1e-6, rtol=1e-5)


def held(state: EncoderState) -> int:
    """Bytes that a state keeps alive, views included."""
    kept = [tensor for tensor in (*state.past, state.pending) if tensor is not None]
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)


@torch.no_grad()
def test_a_long_clip_needs_no_more_memory_than_a_short_one() -> None:
    net, pixels = nano(), clip(21)
    alive: list[weakref.ref[Tensor]] = []

    def arriving() -> Iterator[Tensor]:
        for part in pixels.split(4, dim=1):
            gc.collect()
            assert sum(seen() is not None for seen in alive) <= 1
            part = part.clone()
            alive.append(weakref.ref(part))
            yield part

    torch.testing.assert_close(encode_chunks(net, arriving()), net.encode(pixels), atol=1e-6, rtol=1e-5)
    sizes, state = [], EncoderState()
    for part in pixels[:, :20].split(4, dim=1):
        _, state = encode_stream(net, part, state)
        sizes.append(held(state))
    assert len(set(sizes)) == 1


def test_a_clip_that_leaves_frames_over_is_refused() -> None:
    with pytest.raises(InputError, match=r"expected 1 \+ 4 k frames, got 8\. Leave out the last 3"):
        encode_chunks(nano(), clip(8).split(3, dim=1))
    with pytest.raises(InputError, match=r"got 0\. Give at least one frame"):
        encode_chunks(nano(), ())


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS, ids=str)
@torch.no_grad()
def test_the_published_autoencoders_stream_what_they_make_of_the_whole_clip(form: WanForm, tmp_path: Path) -> None:
    spec, _ = tiny_wan(form, tmp_path)
    net, pixels = WanAutoencoderNet(spec), clip(9, (16, 32))
    whole = net.encode(pixels)
    for sizes in SPLITS:
        found = encode_chunks(net, pixels.split(sizes, dim=1))
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    _, shared = encode_stream(net, pixels[:, :5], EncoderState())
    encode_stream(net, -pixels[:, 5:], shared)  # another clip, between
    torch.testing.assert_close(encode_stream(net, pixels[:, 5:], shared)[0], whole[:, 2:], atol=1e-5, rtol=1e-5)


def forgets(encoder: Any, x: Tensor, slots: list[Any], **place: Any) -> Tensor:
    """An encoder that takes the list and fills it, but does not go by what it is given."""
    slots[:] = [slot if slot is None else torch.zeros_like(slot) for slot in slots]
    return encoder(x, feat_cache=slots, **place)


def renames(encoder: Any, x: Tensor, slots: list[Any], **place: Any) -> Tensor:
    raise TypeError("forward() got an unexpected keyword argument 'feat_cache'")


@pytest.mark.peer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("changed", "told"), [(forgets, "other latents"), (renames, "unexpected keyword")])
@torch.no_grad()
def test_a_diffusers_that_caches_otherwise_is_refused_before_it_gives_wrong_numbers(
    changed: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, _ = tiny_wan(FORMS[1], tmp_path)
    net = WanAutoencoderNet(spec)
    inner = published.video_autoencoder(spec.source, "vae")
    own, real = inner._encode, inner.encoder.forward

    def whole(x: Tensor) -> Tensor:
        with monkeypatch.context() as back:
            back.setattr(inner.encoder, "forward", real)
            return own(x)

    monkeypatch.setattr(inner, "_encode", whole)
    monkeypatch.setattr(inner.encoder, "forward", lambda x, feat_cache, **place: changed(real, x, feat_cache, **place))
    with pytest.raises(InputError, match=f"takes its feature cache as a list.*got.*{told}"):
        encode_stream(net, clip(1, (32, 32)), EncoderState())
