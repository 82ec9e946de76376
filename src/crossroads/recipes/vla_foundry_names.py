"""The names of the weights of VLA Foundry's ``DiffusionPolicy`` (TRI-ML/vla_foundry, MIT) against ours."""

from __future__ import annotations

from crossroads.recipes.names import Renamed, gemma_names, linear, siglip_names, weight_of
from crossroads.recipes.vla_foundry_sizes import VOCABULARY, FoundrySize
from crossroads.towers.foundry import NUM_WEIGHTS

UNUSED = (
    r"transformer\.(embeddings|output)\.weight",  # of a language model, which the head is not
    r"transformer\.norm\..*",
    r"transformer\.layers\.\d+\.attention\.pos_embed\.inv_freq",
    r"sinusoidal_position_embeddings\.emb",
    r"scheduler\..*",
    r"vision_language_backbone\..*lm_head\.weight",
)
"""Never run: what is read is the last layer's output; what is computed from sizes; scores of words."""


def head_names(size: FoundrySize) -> tuple[Renamed, ...]:
    """The head and its ends."""
    found = [
        Renamed(ours="codecs.told.steps", theirs=("time_encoding.weight",)),
        *linear("codecs.told.enter", "condition_encode"),
        *linear("codecs.action.enter", "action_encode"),
        *linear("codecs.action.leave", "output_layer"),
        *(linear("codecs.state.enter", "proprioception_encode") if size.state else ()),
        *(_norm(size, "towers.head.frame.norm_in", "transformer.post_embed_norm") if size.head.norm_in else ()),
    ]
    network = ("w12", "w3") if size.head.gated else ("0", "2")
    for layer in range(size.head.depth):
        here, there = f"towers.head.layers.{layer}", f"transformer.layers.{layer}"
        found += [weight_of(f"{here}.qkv", f"{there}.attention.in_proj")]
        found += [weight_of(f"{here}.out", f"{there}.attention.out_proj")]
        found += [weight_of(f"{here}.up", f"{there}.feed_forward.{network[0]}")]
        found += [weight_of(f"{here}.down", f"{there}.feed_forward.{network[1]}")]
        found += _norm(size, f"{here}.norm_attention", f"{there}.attention_norm")
        found += _norm(size, f"{here}.norm_mlp", f"{there}.ffn_norm")
        if size.head.norm_heads:
            found += _norm(size, f"{here}.norm_q", f"{there}.attention.q_norm")
            found += _norm(size, f"{here}.norm_k", f"{there}.attention.k_norm")
    return tuple(found)


def vla_foundry_names(size: FoundrySize) -> tuple[Renamed, ...]:
    """The whole policy on PaliGemma, as transformers names that; the probe is the last row of its table of words."""
    vlm = "vision_language_backbone._model.model.model"
    table = f"{vlm}.language_model.embed_tokens"
    return (
        weight_of("codecs.text.table", table),
        Renamed(ours="codecs.probe.tokens", theirs=(f"{table}.weight",), row=VOCABULARY),
        *siglip_names("codecs.image", f"{vlm}.vision_tower.vision_model", size.image.depth),
        *linear("codecs.image.project", f"{vlm}.multi_modal_projector.linear"),
        *gemma_names("towers.language", f"{vlm}.language_model", size.language.depth),
        *head_names(size),
    )


def _norm(size: FoundrySize, ours: str, theirs: str) -> list[Renamed]:
    kinds = ("weight", "bias")[: NUM_WEIGHTS[size.head.norm]]
    return [Renamed(ours=f"{ours}.{kind}", theirs=(f"{theirs}.{kind}",)) for kind in kinds]
