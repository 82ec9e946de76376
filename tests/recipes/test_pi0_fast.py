"""pi0-FAST writes the chunk that it was shown; its tokens are fitted on the data that it may see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from every_recipe import seeded
from nano_batch import ROBOT, nano_batch, statistics
from recordings import episodes, write

from crossroads.build import build, fit_normalisers, fit_tokenisers
from crossroads.codecs.discrete_actions import DiscreteActionCodec
from crossroads.codecs.fast import FastTokeniser
from crossroads.cost.flops import parameters
from crossroads.data.lerobot import LeRobotDataset
from crossroads.data.window import action_chunks
from crossroads.pilot.fitting import fit_to
from crossroads.pilot.plan import fit
from crossroads.policy import StreamPolicy
from crossroads.recipes import nano
from crossroads.recipes.catalogue import recipe
from crossroads.recipes.pi0_fast import NANO, pi0_fast


def codec_of(policy: StreamPolicy) -> DiscreteActionCodec:
    codec = policy.net.own_codec("action")
    assert isinstance(codec, DiscreteActionCodec)
    return codec


def test_it_learns_to_write_a_chunk_and_acts_on_what_it_writes() -> None:
    """The actions differ from those shown by the rounding of FAST alone."""
    small = replace(NANO, image=nano.SMALL_IMAGE, language=replace(NANO.language, width=96, mlp=192, depth=2))
    policy = build(pi0_fast(small), ROBOT, seed=1)
    batch = nano_batch(policy.recipe, size=1)
    batch = replace(batch, actions_valid=torch.ones_like(batch.actions_valid))
    fit_normalisers(policy, state=None, actions=statistics((0.0, 0.0, 0.0, 0.5), (0.01, 0.01, 0.01, 0.2)))
    fit_tokenisers(policy, lambda: batch.actions)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(100):
        loss = policy.loss(batch, generator=seeded()).total.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss.item() < 0.02:
            break
    codec = codec_of(policy)
    chunk, _ = policy.act(batch.obs, policy.start(1), generator=seeded())
    shown = codec.decode(codec.target(batch).values)
    torch.testing.assert_close(chunk.values, ROBOT.clamp(shown))
    error = codec.normaliser.normalise(shown) - codec.normaliser.normalise(batch.actions)
    assert 0 < error.pow(2).mean().sqrt() <= 0.5 / 10


def test_its_tokens_are_fitted_on_the_episodes_it_may_see(tmp_path: Path) -> None:
    dataset = LeRobotDataset.open(write(tmp_path / "toy", episodes(6)))
    sized = fit(recipe("pi0_fast"), dataset.space, dataset.cameras)
    policy = build(sized, dataset.space, seed=0)
    fit_to(policy, dataset, (0, 1))
    codec = codec_of(policy)
    assert isinstance(codec.tokeniser, FastTokeniser)
    chunks = action_chunks(dataset, (0, 1), sized.window.num_actions)
    assert len(chunks) == sum(dataset.episodes[index].length for index in (0, 1))
    quantised = codec.tokeniser.quantised(codec.normaliser.normalise(chunks))
    assert int(codec.tokeniser.least) == quantised.min()
    assert codec.normaliser.normalise(chunks).abs().max() <= 1 + 1e-5
    other = build(sized, dataset.space, seed=0)
    fit_to(other, dataset, (2, 3))
    assert not torch.equal(codec.tokeniser.merges, codec_of(other).state_dict()["tokeniser.merges"])


def test_chunks_begin_at_every_frame_and_hold_the_last_action(tmp_path: Path) -> None:
    recorded = episodes(5)
    dataset = LeRobotDataset.open(write(tmp_path / "toy", recorded))
    chunks = action_chunks(dataset, (1, 4), 4)  # the last has no actions
    own = torch.from_numpy(recorded[1].actions)
    assert chunks.shape == (len(own), 4, 2)
    assert torch.equal(chunks[0], own[:4])
    assert torch.equal(chunks[-2], own[[-2, -1, -1, -1]])
    assert torch.equal(action_chunks(dataset, (1, 4), 4, most=2), chunks[[0, -1]])


def test_every_weight_of_it_is_the_language_models() -> None:
    """PaliGemma and nothing else (arXiv 2501.09747): as many as pi0 has without its expert."""
    parts, pi0 = (parameters(recipe(name, "published")).parts for name in ("pi0_fast", "pi0"))
    shared = ("codecs.image", "codecs.text", "towers.language")
    assert set(parts) == set(shared)
    assert all(parts[name] == pi0[name] for name in shared)
