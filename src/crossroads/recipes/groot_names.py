"""The names of the weights of GR00T N1's action head (NVIDIA/Isaac-GR00T) against ours; DiT4DiT has its trunk."""

from __future__ import annotations

from crossroads.recipes.groot_sizes import GrootSize
from crossroads.recipes.names import Renamed, linear

UNUSED = (r"backbone\..*",)  # the frozen model, loaded from its own release
BANKED = {
    **{"codecs.state.enter.layers.0": "state_encoder.layer1", "codecs.state.enter.layers.1": "state_encoder.layer2"},
    **{"codecs.action.enter": "action_encoder.W1", "codecs.action.told_in": "action_encoder.W2"},
    **{"codecs.action.told_out": "action_encoder.W3"},
    **{"codecs.action.leave.layers.0": "action_decoder.layer1"},
    **{"codecs.action.leave.layers.1": "action_decoder.layer2"},
}


def groot_names(size: GrootSize, prefix: str = "action_head.") -> tuple[Renamed, ...]:
    """``FlowmatchingActionHead``: the adapter over the backbone's states, the banks of ends, and the trunk."""
    found = [
        *trunk_names(size.head.depth, prefix),
        *linear("towers.language.frame.norm", f"{prefix}vlln"),
        Renamed(ours="codecs.action.places", theirs=(f"{prefix}position_embedding.weight",)),
    ]
    for ours, theirs in BANKED.items():
        for kind, short in (("weight", "W"), ("bias", "b")):
            named = f"{prefix}{theirs}.{short}"
            found.append(Renamed(ours=f"{ours}.{kind}", theirs=(named,), negated=ours.endswith("leave.layers.1")))
    if size.future:
        found.append(Renamed(ours="codecs.future.tokens", theirs=(f"{prefix}future_tokens.weight",)))
    for layer in range(size.language.geometry.depth):
        here, there = f"towers.language.layers.{layer}", f"{prefix}vl_self_attention.transformer_blocks.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.norm1") + linear(f"{here}.norm_mlp", f"{there}.norm3")
        found += linear(f"{here}.qkv", *(f"{there}.attn1.to_{part}" for part in "qkv"))
        found += linear(f"{here}.out", f"{there}.attn1.to_out.0")
        found += linear(f"{here}.up", f"{there}.ff.net.0.proj") + linear(f"{here}.down", f"{there}.ff.net.2")
    return tuple(found)


def trunk_names(depth: int, prefix: str) -> list[Renamed]:
    """``DiT``; two of its blocks are one layer of ours."""
    told = f"{prefix}model.timestep_encoder.timestep_embedder"
    found = [
        *linear("codecs.action.widen", f"{prefix}model.proj_out_2"),
        *linear("towers.expert.frame.level_in", f"{told}.linear_1"),
        *linear("towers.expert.frame.level_out", f"{told}.linear_2"),
        *linear("towers.expert.frame.head", f"{prefix}model.proj_out_1"),
    ]
    for layer in range(depth):
        here = f"towers.expert.layers.{layer}"
        for half, ours in enumerate((f"{here}.read", here)):
            there = f"{prefix}model.transformer_blocks.{2 * layer + half}"
            found += linear(f"{ours}.told", f"{there}.norm1.linear")
            for part in "qkv":
                found += linear(f"{ours}.{part}", f"{there}.attn1.to_{part}")
            found += linear(f"{ours}.out", f"{there}.attn1.to_out.0")
            found += linear(f"{ours}.feed.up", f"{there}.ff.net.0.proj")
            found += linear(f"{ours}.feed.down", f"{there}.ff.net.2")
    return found
