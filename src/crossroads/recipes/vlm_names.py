"""The names of PaliGemma's (1 and 2), Gemma 3's and SmolVLM's weights in transformers against ours."""

from __future__ import annotations

from crossroads.codecs.pixels import Patches, PooledPatches, ShuffledPatches
from crossroads.recipes.names import GEMMA, Renamed, gemma_names, linear, siglip_names, weight_of
from crossroads.towers.gemma import Gemma
from crossroads.towers.gemma3 import Gemma3

SANDWICHED = {
    **GEMMA,
    "norm_attended": "post_attention_layernorm",
    "norm_mlp": "pre_feedforward_layernorm",
    "norm_out": "post_feedforward_layernorm",
}
NORMED = {"norm_q": "self_attn.q_norm", "norm_k": "self_attn.k_norm"}


def vlm_names(
    image: Patches | None, language: Gemma, *, tied: bool = True, prefix: str = "model", tower: str = "language_model"
) -> tuple[Renamed, ...]:
    """A whole model: its streams are ``image`` (None: it sees no pictures) and ``text``, its tower ``language``.
    ``tower``: the decoder's name there (SmolVLM: ``text_model``)."""
    decoder = f"{prefix}.{tower}"
    words = [weight_of("codecs.text.table", f"{decoder}.embed_tokens")]
    words += [] if tied else [weight_of("codecs.text.scores", "lm_head")]
    named = gemma3_names if isinstance(language, Gemma3) else gemma_names
    sizes = language if isinstance(language, Gemma3) else language.depth
    seen = () if image is None else pictures_names(image, prefix)
    return (*words, *seen, *named("towers.language", decoder, sizes))  # pyright: ignore[reportArgumentType]


def gemma3_names(ours: str, theirs: str, spec: Gemma3) -> list[Renamed]:
    """A Gemma 2 or Gemma 3 decoder."""
    found = [weight_of(f"{ours}.frame.norm", f"{theirs}.norm")]
    for layer in range(spec.depth):
        parts = SANDWICHED | (NORMED if spec.normed else {})
        found += [weight_of(f"{ours}.layers.{layer}.{o}", f"{theirs}.layers.{layer}.{t}") for o, t in parts.items()]
    return found


def pictures_names(image: Patches, prefix: str) -> list[Renamed]:
    """A SigLIP and what leads from it into the decoder: SmolVLM's connector, Gemma 3's or PaliGemma's projector."""
    if isinstance(image, ShuffledPatches):
        into = weight_of("codecs.image.project", f"{prefix}.connector.modality_projection.proj")
        return [*siglip_names("codecs.image", f"{prefix}.vision_model", image.depth), into]
    seen = siglip_names("codecs.image", f"{prefix}.vision_tower", image.depth)
    into = f"{prefix}.multi_modal_projector"
    if not isinstance(image, PooledPatches):
        return [*seen, *linear("codecs.image.project", f"{into}.linear")]
    project = Renamed(
        ours="codecs.image.project.weight", theirs=(f"{into}.mm_input_projection_weight",), shape="v w -> w v"
    )
    return [*seen, project, Renamed(ours="codecs.image.pooled", theirs=(f"{into}.mm_soft_emb_norm.weight",))]
