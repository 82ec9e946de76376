"""Names of LAPA's published quantiser (``laq_model``, MIT) against ours."""

from __future__ import annotations

from crossroads.codecs.lapa_quantiser import CONVOLUTIONS, LapaQuantiser
from crossroads.recipes.names import Renamed

UNREAD = (".1.null_kv", ".1.context_norm.gamma")
"""Of attention to oneself: published code makes them and reads neither."""


def quantiser_names(spec: LapaQuantiser, prefix: str = "") -> tuple[Renamed, ...]:
    """Every weight that is read; ``prefix``: where the quantiser is in our network."""
    found: dict[str, str] = {"codebook": "vq.codebooks"}
    for ours, theirs in (("enter.0", "1"), ("enter.1", "2"), ("enter.2", "3")):
        found |= _both(ours, f"to_patch_emb_first_frame.{theirs}")
    for ours, theirs in (("0", "0.0"), ("2", "1.0"), ("4", "2")):
        found |= _both(f"bias.{ours}", f"spatial_rel_pos_bias.net.{theirs}")
    found |= _both("squeeze", "vq.project_in") | _both("spread", "vq.project_out")
    found |= _both("pixels", "to_pixels_first_frame.0")
    for index in range(len(CONVOLUTIONS[spec.num_codes])):
        found |= _both(f"convolutions.{2 * index}", f"vq.cnn_encoder.{2 * index}")
    for ours, theirs, depth in (("space", "enc_spatial", spec.depth), ("time", "enc_temporal", spec.time_depth)):
        found |= _stack(ours, theirs, depth, crossed=False)
    found |= _stack("decoder", "dec_spatial", spec.depth, crossed=True)
    shapes = {name: "d 1 t h w -> d t h w" for name in found if name.endswith(".near.weight")}
    return tuple(
        Renamed(ours=prefix + ours, theirs=(theirs,), shape=shapes.get(ours, "")) for ours, theirs in found.items()
    )


def unread(spec: LapaQuantiser) -> frozenset[str]:
    """Published tensors that have no place in ours: the zeros that norms would add, and what nobody reads."""
    stacks = {"enc_spatial": spec.depth, "enc_temporal": spec.time_depth, "dec_spatial": spec.depth}
    found = {f"{stack}_transformer.norm_out.beta" for stack in stacks}
    for stack, depth in stacks.items():
        for layer in range(depth):
            here = f"{stack}_transformer.layers.{layer}"
            found |= {f"{here}{name}" for name in (*UNREAD, ".1.norm.beta", ".1.context_norm.beta")}
            if stack == "dec_spatial":
                found |= {f"{here}.2.norm.beta", f"{here}.2.context_norm.beta"}
    return frozenset(found)


def _both(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def _stack(ours: str, theirs: str, depth: int, *, crossed: bool) -> dict[str, str]:
    found = {f"{ours}.norm.weight": f"{theirs}_transformer.norm_out.gamma"}
    for layer in range(depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}_transformer.layers.{layer}"
        found |= {f"{here}.near.weight": f"{there}.0.dsconv.weight", f"{here}.near.shift": f"{there}.0.dsconv.bias"}
        found |= _attention(f"{here}.attention", f"{there}.1")
        if crossed:
            found |= _attention(f"{here}.cross", f"{there}.2")
            found |= {f"{here}.cross.context_norm.weight": f"{there}.2.context_norm.gamma"}
            found |= {f"{here}.cross.null": f"{there}.2.null_kv"}
        found |= _both(f"{here}.norm", f"{there}.3.0")
        found |= {f"{here}.up.weight": f"{there}.3.1.weight", f"{here}.down.weight": f"{there}.3.4.weight"}
    return found


def _attention(ours: str, theirs: str) -> dict[str, str]:
    parts = {"q.weight": "to_q.weight", "kv.weight": "to_kv.weight", "o.weight": "to_out.weight"}
    parts |= {"norm.weight": "norm.gamma", "q_scale": "q_scale", "k_scale": "k_scale"}
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in parts.items()}
