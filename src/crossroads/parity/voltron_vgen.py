"""Voltron's form V-Gen as recorded from the official class (Karamcheti et al. 2023, arXiv 2302.12766; MIT).

Saved states and embeddings stand for the frozen language model; saved numbers for the draw of what is hidden.
"""

from __future__ import annotations

import torch

from crossroads.codecs.voltron import Voltron, VoltronNet, painted, written
from crossroads.parity.case import GoldenCase
from crossroads.parity.compare import Produced

COMPUTED = frozenset({"prefix_mask"})
"""A table that is computed here."""


@torch.no_grad()
def run(case: GoldenCase) -> Produced:
    """Everything that a case records."""
    spec, given = size_of(case), case.inputs
    net = VoltronNet(spec).eval()
    net.load_state_dict({name: tensor for name, tensor in case.weights.items() if name not in COMPUTED})
    pictures, told = given["imgs"], given["lang_context_features"]
    spoken, writing = given["lang_con_mask"].bool(), given["lang_gen_mask"].bool()
    found = net.masked(pictures, told, spoken, given["mask_uniform"])
    paint, scores = net.decoded(found, given["lang_gen_token_embeddings"], writing)
    errors = painted(spec, pictures, paint, found.hidden)
    wording = written(scores, given["lang_gen"], writing, given["lang_gen_weight"])
    return Produced(
        outputs={
            "encoder_visible_patches": found.states.flatten(1, 2),
            "patch_mask": found.hidden,
            "restore_idxs": found.back,
            "reconstruction": paint,
            "token_logits": scores,
            "reconstruction_loss": errors.mean(),
            "lm_loss": wording,
            "zero_loss": errors[0],
            "k_loss": errors[1],
            "loss": spec.painting * errors.mean() + spec.writing * wording,
            "representation": net.representation(pictures, told, spoken),
            "decoder_prefix_visible": net.prefix(scores.shape[1], scores.device).to(torch.uint8),
        }
    )


def size_of(case: GoldenCase) -> Voltron:
    """The sizes of a recorded case."""
    made = case.meta["constructor_arguments"]
    return Voltron(
        resolution=made["resolution"],
        patch=made["patch_size"],
        width=made["encoder_embed_dim"],
        depth=made["encoder_depth"],
        heads=made["encoder_n_heads"],
        decoder_width=made["decoder_embed_dim"],
        decoder_depth=made["decoder_depth"],
        decoder_heads=made["decoder_n_heads"],
        words_width=made["language_dim"],
        max_words=made["max_lang_len"],
        vocabulary=made["vocab_size"],
        hidden=made["mask_ratio"],
        painting=made["mae_weight"],
        writing=made["lm_weight"],
    )
