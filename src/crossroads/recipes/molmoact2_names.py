"""The names of MolmoAct2's weights (LeRobot ``molmoact2_hf_model``, Apache-2.0) against ours: language model without
pictures, expert and ends."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from crossroads.recipes.names import Renamed, linear, weight_of
from crossroads.towers.molmo import MolmoExpert
from crossroads.towers.qwen import Qwen

EXPERT = {
    **{"told": "modulation.linear", "qkv": "self_attn.qkv", "out": "self_attn.out_proj"},
    **{"cross_q": "cross_attn.q_proj", "cross_out": "cross_attn.out_proj"},
    **{"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"},
}


def molmoact2_names(language: Qwen, expert: MolmoExpert) -> tuple[Renamed, ...]:
    """``MolmoAct2ForConditionalGeneration`` behind ``separated``."""
    text, model = "model.transformer", "model.action_expert"
    found = [
        Renamed(ours="codecs.text.table.weight", theirs=(f"{text}.wte.embedding",)),
        weight_of("codecs.text.scores", "lm_head"),
        weight_of("towers.language.frame.norm", f"{text}.ln_f"),
    ]
    for layer in range(language.depth):
        here, there = f"towers.language.layers.{layer}", f"{text}.blocks.{layer}"
        found += [weight_of(f"{here}.norm_attention", f"{there}.attn_norm")]
        found += [weight_of(f"{here}.norm_mlp", f"{there}.ff_norm")]
        found += [weight_of(f"{here}.out", f"{there}.self_attn.attn_out")]
        found += [weight_of(f"{here}.down", f"{there}.mlp.ff_out")]
        for part in "qkv":
            fused = f"{there}.self_attn.att_proj.{part}"
            found += linear(f"{here}.{part}", fused) if language.biased else (weight_of(f"{here}.{part}", fused),)
        found += [weight_of(f"{here}.{part}", f"{there}.mlp.ff_proj.{part}") for part in ("up", "gate")]
        if language.normed:
            found += [weight_of(f"{here}.norm_{part}", f"{there}.self_attn.{part}_norm") for part in "qk"]
    found += linear("codecs.action.enter", f"{model}.action_embed")
    last = linear("codecs.action.leave", f"{model}.final_layer.linear")
    found += [Renamed(ours=one.ours, theirs=one.theirs, negated=True) for one in last]
    found += linear("towers.expert.frame.level_in", f"{model}.time_embed.1")
    found += linear("towers.expert.frame.level_out", f"{model}.time_embed.3")
    found += linear("towers.expert.frame.told", f"{model}.final_layer.modulation.linear")
    found += [weight_of(f"towers.expert.frame.{part}s", f"{model}.context_{part[0]}_proj") for part in ("key", "value")]
    for layer in range(expert.depth):
        for ours, theirs in EXPERT.items():
            found += linear(f"towers.expert.layers.{layer}.{ours}", f"{model}.blocks.{layer}.{theirs}")
    return tuple(found)


def separated(published: Mapping[str, Tensor], language: Qwen) -> dict[str, Tensor]:
    """Published tensors with the language model's fused maps cut into those that ``molmoact2_names`` knows."""
    keys = language.kv_heads * language.head_dim
    found = {}
    for name, weight in published.items():
        parts = {}
        if ".att_proj." in name:
            parts = dict(zip("qkv", weight.split([language.heads * language.head_dim, keys, keys]), strict=True))
        elif name.endswith("mlp.ff_proj.weight"):
            parts = dict(zip(("up", "gate"), weight.chunk(2), strict=True))  # its first half is not bent
        head, _, kind = name.rpartition(".")
        found |= {f"{head}.{part}.{kind}": rows for part, rows in parts.items()} or {name: weight}
    return found
