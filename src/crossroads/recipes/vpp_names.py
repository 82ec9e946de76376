"""Published names of the weights of VPP's networks (Hu et al. 2024, arXiv 2412.14803; MIT code)."""

from __future__ import annotations

from crossroads.recipes.names import Renamed, linear, weight_of

MIXED = ("q", "k", "v")


def former_names(ours: str, depth: int, *, over_time: bool = True) -> tuple[Renamed, ...]:
    """``Video_Former_3D`` but for its learned tokens, which are ``latents`` there."""
    found = [
        *linear(f"{ours}.enter_in", "goal_emb.0"),
        *linear(f"{ours}.enter_out", "goal_emb.2"),
        Renamed(ours=f"{ours}.time", theirs=("time_pos_emb",)),
        *linear(f"{ours}.norm", "norm"),
    ]
    for layer in range(depth):
        here, there = f"{ours}.layers.{layer}", f"layers.{layer}"
        found += linear(f"{here}.read.norm_read", f"{there}.0.norm_media")
        found += linear(f"{here}.read.norm_own", f"{there}.0.norm_latents")
        found += [weight_of(f"{here}.read.{part}", f"{there}.0.to_{part}") for part in (*MIXED, "out")]
        if over_time:
            found += linear(f"{here}.over_time.qkv", f"{there}.1.qkv") + linear(
                f"{here}.over_time.out", f"{there}.1.proj"
            )
        feed = f"{there}.2" if over_time else f"{there}.1"
        found += linear(f"{here}.norm", f"{feed}.0")
        found += [weight_of(f"{here}.up", f"{feed}.1"), weight_of(f"{here}.down", f"{feed}.3")]
    return tuple(found)


def encoder_names(ours: str, depth: int) -> tuple[Renamed, ...]:
    """The encoder of ``GCDenoiser``. Left over: ``goal_emb`` and ``pos_emb``, which nothing reads."""
    there = "inner_model"
    found = [
        *linear(f"{ours}.goal_in", f"{there}.lang_emb.0"),
        *linear(f"{ours}.goal_out", f"{there}.lang_emb.2"),
        *linear(f"{ours}.seen", f"{there}.tok_emb"),
        weight_of(f"{ours}.norm", f"{there}.encoder.ln"),
    ]
    for layer in range(depth):
        here, block = f"{ours}.layers.{layer}", f"{there}.encoder.blocks.{layer}"
        found += _attention(f"{here}.attention", f"{block}.attn")
        found += _feed(here, block)
    return tuple(found)


def decoder_names(ours: str, depth: int) -> tuple[Renamed, ...]:
    """The decoder of ``GCDenoiser``, without the ends of its actions."""
    there = "inner_model"
    found = [
        *linear(f"{ours}.level_in", f"{there}.sigma_emb.1"),
        *linear(f"{ours}.level_out", f"{there}.sigma_emb.3"),
        weight_of(f"{ours}.norm", f"{there}.decoder.ln"),
    ]
    for layer in range(depth):
        here, block = f"{ours}.layers.{layer}", f"{there}.decoder.blocks.{layer}"
        found += _attention(f"{here}.attention", f"{block}.attn") + _attention(f"{here}.read", f"{block}.cross_att")
        found += linear(f"{here}.norm_read", f"{block}.ln3") + linear(
            f"{here}.told", f"{block}.adaLN_zero.modulation.1"
        )
        found += _feed(here, block)
    return tuple(found)


def end_names(action: str, state: str | None) -> tuple[Renamed, ...]:
    """The ends of the actions, and of the state where it is read."""
    found = [
        *linear(f"{action}.enter", "inner_model.action_emb"),
        *linear(f"{action}.leave", "inner_model.action_pred"),
    ]
    if state:
        for layer, there in ((0, 0), (1, 2)):
            found += linear(f"{state}.enter.layers.{layer}", f"inner_model.proprio_emb.{there}")
    return tuple(found)


def _attention(ours: str, theirs: str) -> list[Renamed]:
    names = {"q": "query", "k": "key", "v": "value"}
    found = [entry for part in MIXED for entry in linear(f"{ours}.{part}", f"{theirs}.{names[part]}")]
    return [*found, weight_of(f"{ours}.out", f"{theirs}.c_proj")]


def _feed(ours: str, theirs: str) -> list[Renamed]:
    return [
        weight_of(f"{ours}.norm_attention", f"{theirs}.ln_1"),
        weight_of(f"{ours}.norm_mlp", f"{theirs}.ln_2"),
        weight_of(f"{ours}.feed.up", f"{theirs}.mlp.c_fc"),
        weight_of(f"{ours}.feed.down", f"{theirs}.mlp.c_proj"),
    ]
