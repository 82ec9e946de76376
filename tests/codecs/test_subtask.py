"""What pi0.5 writes, and the prompt in front of it, where a sample has no state."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from every_recipe import policy_of
from nano_batch import nano_batch

from crossroads.codecs.prompt import PromptCodec
from crossroads.codecs.subtask import SubtaskCodec
from crossroads.errors import InputError


def parts() -> tuple[PromptCodec, SubtaskCodec]:
    codecs = policy_of("pi05").net.codecs
    prompt, subtask = codecs["text"], codecs["subtask"]
    assert isinstance(prompt, PromptCodec)
    assert isinstance(subtask, SubtaskCodec)
    return prompt, subtask


def test_the_answer_is_written_and_where_there_is_none_the_instruction_unless_nothing_is_done() -> None:
    _, subtask = parts()
    batch = replace(nano_batch(policy_of("pi05").recipe, size=3), answer=("push the cube", "", ""))
    acting = batch.actions_valid.clone()
    acting[2] = False
    latent = subtask.target(replace(batch, actions_valid=acting))
    assert subtask.decode(latent.values)[:2] == ("push the cube", batch.obs.text[1])
    end = subtask.spec.vocabulary.end
    assert [row[there].tolist()[-1:] for row, there in zip(latent.values, latent.valid, strict=True)] == [
        [end],
        [end],
        [],
    ]


def test_what_is_written_has_the_embeddings_of_the_prompt_and_no_weights_of_its_own() -> None:
    prompt, subtask = parts()
    assert not list(subtask.parameters())
    ids, level = torch.tensor([[7, 300]]), torch.zeros(1, 1)
    assert torch.equal(subtask.embed(ids, level), prompt.embed(ids, level))


def test_a_text_longer_than_may_be_written_is_refused() -> None:
    _, subtask = parts()
    batch = replace(nano_batch(policy_of("pi05").recipe), answer=("red " * 40, ""))
    with pytest.raises(InputError, match="at most 32 tokens"):
        subtask.target(batch)


def test_a_sample_without_a_state_has_its_words_alone_for_a_prompt() -> None:
    prompt, _ = parts()
    obs = nano_batch(policy_of("pi05").recipe).obs
    state = obs.state.clone()
    state[1] = torch.nan
    mixed = prompt.observe(replace(obs, state=state))
    said = prompt.decode(mixed.values)
    assert "state" in said[0]
    assert said[1] == obs.text[1]
