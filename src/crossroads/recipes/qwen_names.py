"""The names of Qwen2.5-VL's and Qwen3-VL's weights (transformers, and the hub's files) against ours."""

from __future__ import annotations

from crossroads.codecs.qwen_pictures import FRAMES, Qwen3Pictures, Qwen25Pictures
from crossroads.recipes.names import Renamed, gemma_names, linear, weight_of
from crossroads.towers.qwen import Qwen

START, END = 151652, 151653
"""``<|vision_start|>`` and ``<|vision_end|>`` in Qwen's vocabulary."""


def qwen_names(
    image: Qwen25Pictures | Qwen3Pictures,
    language: Qwen,
    *,
    tied: bool,
    prefixes: tuple[str, str] = ("model.language_model", "model.visual"),
    marks: tuple[int, int] = (START, END),
) -> tuple[Renamed, ...]:
    """A whole model: its streams are ``image`` and ``text``, its tower ``language``. ``prefixes``: what stands before
    the names of the decoder and of the vision tower (files of Qwen2.5-VL: ``("model", "visual")``)."""
    decoder, vision = prefixes
    table = f"{decoder}.embed_tokens.weight"
    ends = [Renamed(ours="codecs.text.table.weight", theirs=(table,))]
    if not tied:
        ends.append(weight_of("codecs.text.scores", "lm_head"))
    if image.marked:
        ends += [
            Renamed(ours=f"codecs.image.{name}", theirs=(table,), row=row)
            for name, row in zip(("start", "end"), marks, strict=True)
        ]
    seen = qwen25_pictures(image, vision) if isinstance(image, Qwen25Pictures) else qwen3_pictures(image, vision)
    return (*ends, *seen, *qwen_decoder_names("towers.language", decoder, language))


def qwen_decoder_names(ours: str, theirs: str, spec: Qwen) -> list[Renamed]:
    """A decoder: Llama's names, and those of biases and of norms over heads."""
    found = gemma_names(ours, theirs, spec.depth)
    for layer in range(spec.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.layers.{layer}.self_attn"
        if spec.biased:
            found += [Renamed(ours=f"{here}.{name}.bias", theirs=(f"{there}.{name}_proj.bias",)) for name in "qkv"]
        if spec.normed:
            found += [weight_of(f"{here}.norm_{name}", f"{there}.{name}_norm") for name in "qk"]
    return found


def _entering(theirs: str, patch: int) -> Renamed:
    """Patches two frames deep, which stand as one row here."""
    return Renamed(
        ours="codecs.image.enter.weight",
        theirs=(f"{theirs}.patch_embed.proj.weight",),
        shape="v c t p q -> v (c t p q)",
        axes=(("c", 3), ("t", FRAMES), ("p", patch), ("q", patch)),
    )


def qwen25_pictures(spec: Qwen25Pictures, theirs: str) -> list[Renamed]:
    """The vision tower of Qwen2.5-VL."""
    ours = "codecs.image"
    found = [_entering(theirs, spec.patch), weight_of(f"{ours}.merge.norm", f"{theirs}.merger.ln_q")]
    found += linear(f"{ours}.merge.first", f"{theirs}.merger.mlp.0")
    found += linear(f"{ours}.merge.second", f"{theirs}.merger.mlp.2")
    for layer in range(spec.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.blocks.{layer}"
        found += [
            weight_of(f"{here}.norm_attention", f"{there}.norm1"),
            weight_of(f"{here}.norm_mlp", f"{there}.norm2"),
        ]
        found += linear(f"{here}.qkv", f"{there}.attn.qkv") + linear(f"{here}.out", f"{there}.attn.proj")
        for name in ("gate", "up", "down"):
            found += linear(f"{here}.{name}", f"{there}.mlp.{name}_proj")
    return found


def qwen3_pictures(spec: Qwen3Pictures, theirs: str) -> list[Renamed]:
    """The vision tower of Qwen3-VL."""
    ours = "codecs.image"
    found = [_entering(theirs, spec.patch)]
    found.append(Renamed(ours=f"{ours}.enter.bias", theirs=(f"{theirs}.patch_embed.proj.bias",)))
    found.append(Renamed(ours=f"{ours}.position", theirs=(f"{theirs}.pos_embed.weight",)))
    mergers = {"merge": "merger", **{f"deep.{i}": f"deepstack_merger_list.{i}" for i in range(spec.num_deep)}}
    for here, there in mergers.items():
        for name, other in {"norm": "norm", "first": "linear_fc1", "second": "linear_fc2"}.items():
            found += linear(f"{ours}.{here}.{name}", f"{theirs}.{there}.{other}")
    for layer in range(spec.depth):
        here, there = f"{ours}.layers.{layer}", f"{theirs}.blocks.{layer}"
        found += linear(f"{here}.norm_attention", f"{there}.norm1") + linear(f"{here}.norm_mlp", f"{there}.norm2")
        found += linear(f"{here}.qkv", f"{there}.attn.qkv") + linear(f"{here}.out", f"{there}.attn.proj")
        found += linear(f"{here}.up", f"{there}.mlp.linear_fc1") + linear(f"{here}.down", f"{there}.mlp.linear_fc2")
    return found
