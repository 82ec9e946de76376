"""R3M's training losses as recorded from the official trainer (Nair et al. 2022, arXiv 2203.12601; MIT).

Saved vectors stand for the picture network and the sentence encoder; saved orders of the batch for its draws.
"""

from __future__ import annotations

import torch

from crossroads.codecs.r3m import LanguageReward, R3mWeights, alike, r3m_losses
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced

PREFIX = "lang_rew."


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    made, given = case.meta["constructor_arguments"], case.inputs
    weights = R3mWeights(
        short=made["l2weight"],
        sparse=made["l1weight"],
        words=made["langweight"],
        time=made["tcnweight"],
        distance=made["l2dist"],
        num_negatives=made["num_negatives"],
    )
    reward = LanguageReward(made["embedding_dim"], made["lang_dim"], made["hidden_dim"])
    reward.load_state_dict({name.removeprefix(PREFIX): tensor for name, tensor in case.weights.items()})
    vectors, words = given["embeddings"], given["lang_feature"]
    found = r3m_losses(
        vectors, words, given["has_language"].bool(), reward, weights, iter(given["permutations"].unbind())
    )
    first, last, _, middle, late = vectors.unbind(dim=1)
    beside = {
        "reward_e0_eg": reward(first, last, words),
        "sim_s1_s2": alike(middle, late, distance=weights.distance),
    }
    return Produced(outputs={**found, **beside})
