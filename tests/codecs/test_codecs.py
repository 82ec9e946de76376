"""Codecs: there and back, what is valid, what a description asks of a dataset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nano_batch import nano_batch, statistics

from crossroads.codecs.action_tokens import ActionCodec, ActionTokens
from crossroads.codecs.latents import LatentCodec, VideoLatents
from crossroads.codecs.pixels import PatchCodec, Patches
from crossroads.codecs.state import StateCodec, StateToken
from crossroads.codecs.text import END, PAD, TextCodec, TextTokens, Vocabulary
from crossroads.codecs.video_autoencoder import NanoAutoencoder
from crossroads.errors import InputError
from crossroads.recipes import nano
from crossroads.recipes.fast_wam import fast_wam
from crossroads.types import Window

VOCABULARY = Vocabulary(words=("push", "the", "red", "cube", "<x3>", "."))
AUTOENCODER = NanoAutoencoder(channels=4, width=8)


# Text


@given(st.text(max_size=40))
def test_any_text_comes_back_up_to_case_and_spacing(text: str) -> None:
    """Words of the vocabulary and words spelt in bytes alike; two spelt words in a row are joined, by design of the
    byte fallback, so spaces are not compared."""
    back = VOCABULARY.decode(VOCABULARY.encode(text))
    assert "".join(back.split()) == "".join(text.lower().split())


@given(st.lists(st.sampled_from(VOCABULARY.words), max_size=8))
def test_texts_of_known_words_come_back_exactly_with_one_token_per_word(words: list[str]) -> None:
    ids = VOCABULARY.encode(" ".join(words))
    assert len(ids) == len(words)
    assert VOCABULARY.decode([*ids, END, *ids]) == " ".join(words)


def test_the_whole_grammar_of_the_nano_vocabulary_is_one_token_per_word() -> None:
    assert [len(nano.VOCABULARY.encode(word)) for word in nano.WORDS] == [1] * len(nano.WORDS)
    assert nano.VOCABULARY.size == 259 + len(nano.WORDS)


def test_texts_are_padded_to_the_longest_and_only_answers_end() -> None:
    codec = TextCodec(TextTokens(vocabulary=VOCABULARY, max_tokens=6), 8)
    latent = codec.tokens(("push the cube", "push", ""), ends=True)
    assert latent.valid.sum(dim=1).tolist() == [4, 2, 0]
    assert latent.values[0, 3] == END
    assert latent.values[1, 2:].tolist() == [PAD, PAD]
    prompt = codec.tokens(("push the cube",), ends=False)
    assert END not in prompt.values
    assert codec.decode(latent.values) == ("push the cube", "push", "")


def test_an_empty_instruction_still_has_a_token_to_read() -> None:
    codec = TextCodec(TextTokens(vocabulary=VOCABULARY, max_tokens=6), 8)
    batch = nano_batch(fast_wam())
    latent = codec.observe(batch.obs.told(("push", "")))
    assert latent.valid.sum(dim=1).tolist() == [1, 1]


def test_a_text_that_is_too_long_is_refused_with_the_text() -> None:
    codec = TextCodec(TextTokens(vocabulary=VOCABULARY, max_tokens=3), 8)
    with pytest.raises(InputError, match=r"at most 3 tokens.*got 4 in 'push the red cube'.*raise max_tokens"):
        codec.tokens(("push the red cube",), ends=False)


def test_input_and_output_embeddings_are_tied_and_scaled_as_asked() -> None:
    for scaled in (False, True):
        codec = TextCodec(TextTokens(vocabulary=VOCABULARY, max_tokens=6, scaled=scaled), 16)
        ids = torch.tensor([[3, 260]])
        embedded = codec.embed(ids, torch.zeros(1, 1))
        torch.testing.assert_close(embedded, codec.table.weight[ids] * (4.0 if scaled else 1.0))
        torch.testing.assert_close(codec.read(embedded), embedded @ codec.table.weight.T)


# Actions and state


@pytest.mark.parametrize("level_in_codec", [False, True])
def test_actions_come_back_in_their_units_and_are_unit_scale_inside(level_in_codec: bool) -> None:
    spec = ActionTokens(num_actions=12, action_size=4, control_hz=10.0, level_in_codec=level_in_codec)
    codec = ActionCodec(spec, 16)
    codec.normaliser.fit(statistics((0.0, 0.0, 0.0, 0.5), (0.01, 0.01, 0.01, 0.3)), "mean_std")
    batch = nano_batch(fast_wam())
    latent = codec.target(batch)
    torch.testing.assert_close(codec.decode(latent.values), batch.actions)
    assert 0.5 < latent.values.std() < 3
    assert torch.equal(latent.valid, batch.actions_valid)
    levels = [codec.embed(latent.values, torch.full((2, 1), level)) for level in (0.0, 0.7)]
    assert torch.equal(*levels) is not level_in_codec


def test_the_state_is_one_normalised_token() -> None:
    codec = StateCodec(StateToken(num_state=4), 8)
    codec.normaliser.fit(statistics((1.0, 0.0, 0.0, 0.0), (2.0, 1.0, 1.0, 1.0)), "mean_std")
    obs = nano_batch(fast_wam()).obs
    latent = codec.observe(obs)
    assert latent.values.shape == (2, 1, 4)
    torch.testing.assert_close(latent.values[:, 0, 0], (obs.state[:, 0] - 1) / 2)
    assert codec.embed(latent.values, torch.zeros(2, 1)).shape == (2, 1, 8)


def test_codecs_refuse_what_their_stream_cannot_be() -> None:
    obs = nano_batch(fast_wam()).obs
    with pytest.raises(AssertionError, match="never observed"):
        ActionCodec(ActionTokens(num_actions=2, action_size=4, control_hz=10.0), 8).observe(obs)
    with pytest.raises(AssertionError, match="is an input"):
        StateCodec(StateToken(num_state=4), 8).read(torch.zeros(1, 1, 8))


# Pictures


def test_image_tokens_come_camera_by_camera_and_do_not_mix_cameras() -> None:
    spec = Patches(
        cameras=("front", "wrist"), image_hw=(16, 24), patch=8, depth=1, vision_width=16, vision_mlp=16, heads=2
    )
    codec = PatchCodec(spec, 12)
    batch = nano_batch(fast_wam())
    images = torch.randint(0, 256, (2, 2, 16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    obs = replace(batch.obs, images={"wrist": images[1], "front": images[0]})
    latent = codec.observe(obs)
    tokens = codec.embed(latent.values, torch.zeros(2, 1))
    assert tokens.shape == (2, spec.num_tokens("now"), 12) == (2, 12, 12)
    assert codec.grid("now", 12)[:, 0].tolist() == [0.0] * 6 + [1.0] * 6
    changed = latent.values.clone()
    changed[:, 1] = 255 - changed[:, 1]
    moved = (codec.embed(changed, torch.zeros(2, 1)) - tokens).abs().amax(dim=(0, 2)) > 0
    assert moved.tolist() == [False] * 6 + [True] * 6


def test_future_times_must_fill_whole_latents() -> None:
    with pytest.raises(InputError, match="a multiple of 4 future frames"):
        VideoLatents(cameras=("front",), image_hw=(16, 16), future_s=(0.1, 0.2), autoencoder=AUTOENCODER)


def test_a_latent_is_valid_only_if_all_its_frames_are() -> None:
    spec = replace(nano.VIDEO, future_s=tuple(0.1 * index for index in range(1, 9)), autoencoder=AUTOENCODER)
    codec = LatentCodec(spec, 8)
    batch = nano_batch(fast_wam())
    future = {"front": torch.zeros(2, 8, *nano.IMAGE_HW, 3, dtype=torch.uint8)}
    valid = torch.ones(2, 8, dtype=torch.bool)
    valid[1, 6] = False
    latent = codec.target(replace(batch, future=future, future_valid=valid))
    assert latent.values.shape == (2, spec.num_tokens("noised"), spec.patch_size)
    per_latent = spec.num_tokens("now")
    assert latent.valid[0].all()
    assert latent.valid[1].tolist() == [True] * per_latent + [False] * per_latent


def test_what_is_observed_is_the_first_latent_of_the_clip_whatever_follows() -> None:
    codec = LatentCodec(replace(nano.VIDEO, autoencoder=AUTOENCODER), 8)
    batch = nano_batch(fast_wam())
    now = codec.observe(batch.obs).values
    clip = torch.cat([batch.obs.images["front"][:, None], batch.future["front"]], dim=1)
    whole = codec.autoencoder.encode(codec.canvas({"front": clip}))
    torch.testing.assert_close(now, codec._latent(whole[:, :1], torch.ones(2, 1, dtype=torch.bool)).values)
    dark = replace(batch, future={"front": torch.zeros_like(batch.future["front"])})
    assert not torch.equal(codec.target(dark).values, codec.target(batch).values)


def test_cameras_share_a_canvas_and_come_back_apart() -> None:
    """Bright left camera, dark right camera: through patches of 2 the layout survives embedding order and decoding."""
    spec = VideoLatents(
        cameras=("front", "wrist"), image_hw=(16, 16), future_s=(0.1, 0.2, 0.3, 0.4), autoencoder=AUTOENCODER, patch=2
    )
    codec = LatentCodec(spec, 8)
    assert spec.grid_hw == (1, 2)
    assert codec.grid("noised", 2).tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]
    z = torch.randn(1, 2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    tokens = codec._latent(z, torch.ones(1, 2, dtype=torch.bool)).values
    frames = codec.decode(tokens[:, 2:], tokens[:, :2])
    direct = codec.autoencoder.decode(z)[:, 1:]
    direct = ((direct + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(frames["front"], direct[:, :, :, :16])
    assert torch.equal(frames["wrist"], direct[:, :, :, 16:])


def test_three_cameras_in_two_rows_leave_a_grey_place_and_come_back_apart() -> None:
    spec = VideoLatents(
        cameras=("front", "left", "right"), image_hw=(16, 16), future_s=(0.1,) * 4, autoencoder=AUTOENCODER, columns=2
    )
    codec = LatentCodec(spec, 8)
    assert spec.grid_hw == (4, 4)
    assert spec.num_tokens("now") == 16
    shades = {"front": 0, "left": 85, "right": 255}
    images = {name: torch.full((1, 1, 16, 16, 3), shade, dtype=torch.uint8) for name, shade in shades.items()}
    canvas = codec.canvas(images)[0, 0, ..., 0]
    corners = [canvas[:16, :16], canvas[:16, 16:], canvas[16:, :16], canvas[16:, 16:]]
    for tile, shade in zip(corners, (-1.0, 85 / 127.5 - 1, 1.0, 0.0), strict=True):
        torch.testing.assert_close(tile, torch.full((16, 16), shade))
    z = torch.randn(1, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    tokens = codec._latent(z, torch.ones(1, 2, dtype=torch.bool)).values
    frames = codec.decode(tokens[:, 16:], tokens[:, :16])
    direct = ((codec.autoencoder.decode(z)[:, 1:] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert torch.equal(frames["left"], direct[:, :, :16, 16:])
    assert torch.equal(frames["right"], direct[:, :, 16:, :16])
    assert frames.keys() == shades.keys()


def test_each_codec_asks_a_dataset_for_its_own_part_alone() -> None:
    asked = [stream.codec.window() for stream in fast_wam().stage.streams]
    merged = Window.merge(tuple(asked))
    assert merged.cameras == nano.CAMERAS
    assert merged.num_actions == nano.NUM_ACTIONS
    assert [bool(window.cameras) for window in asked] == [False, False, True, False]
