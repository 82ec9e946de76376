"""pi0 on another vision-language model: Qwen3-VL or Gemma 3 in the place of PaliGemma, the expert in its geometry.

Black et al. 2024, arXiv 2410.24164, with the decoders of arXiv 2511.21631 (Qwen3-VL-2B) and arXiv 2503.19786 (Gemma 3
4B). Neither was trained to read a prompt in both directions, so its words are read one after the other; pictures read
pictures. The expert is pi0's, as wide, with as many layers and heads as the language model beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from crossroads.codecs.pixels import PooledPatches
from crossroads.codecs.published_text import PretrainedVocabulary
from crossroads.codecs.qwen_pictures import Qwen3Pictures
from crossroads.recipe import Recipe
from crossroads.recipes import nano
from crossroads.recipes import pi0 as pi0_sizes
from crossroads.recipes.pi0 import Pi0Size, pi0
from crossroads.streams import Edge, reads
from crossroads.towers.gemma3 import Gemma3
from crossroads.towers.qwen import Qwen

BOTH = (
    "The vision-language model is not pi0's, and its prompt is read in one direction.",
    "The prompt has no chat template around the pictures and the words.",
)
NANO_BOTH = (*BOTH, "At nano size the vision-language model starts from random weights; no small one is shipped.")
PUBLISHED_BOTH = (
    *BOTH,
    "Weights start at random until those of the vision-language model are imported (crossroads.recipes.qwen_names, "
    "crossroads.recipes.vlm_names).",
)

_PIXELS: dict[str, Any] = {
    name: getattr(nano.IMAGE, name) for name in ("cameras", "image_hw", "patch", "depth", "heads")
}
_VISION: dict[str, Any] = {"vision_width": nano.IMAGE.vision_width, "vision_mlp": nano.IMAGE.vision_mlp}
_DECODER: dict[str, Any] = {
    name: getattr(nano.LANGUAGE_TOWER, name) for name in ("width", "depth", "heads", "kv_heads", "head_dim")
}

QWEN3_NANO = replace(
    pi0_sizes.NANO,
    image=Qwen3Pictures(**_PIXELS, **_VISION, places=4, deep=(0,)),
    language=Qwen(**_DECODER, mlp=960, sections=(8, 8, 8), interleaved=True, normed=True),
    backbone=None,
    departs=(*NANO_BOTH, *pi0_sizes.NANO.departs),
)
GEMMA3_NANO = replace(
    pi0_sizes.NANO,
    image=PooledPatches(**_PIXELS, **_VISION, pool=2),
    language=Gemma3(**_DECODER, mlp=960, reach=24, whole_every=3, normed=True),
    backbone=None,
    departs=(*NANO_BOTH, *pi0_sizes.NANO.departs),
)

_QWEN3 = Qwen(  # Qwen/Qwen3-VL-2B-Instruct, config.json
    width=2048,
    mlp=6144,
    depth=28,
    heads=16,
    kv_heads=8,
    head_dim=128,
    theta=5e6,
    sections=(24, 20, 20),
    interleaved=True,
    normed=True,
)
_GEMMA3 = Gemma3(  # google/gemma-3-4b-it, config.json
    width=2560,
    mlp=10240,
    depth=34,
    heads=8,
    kv_heads=4,
    head_dim=256,
    reach=1024,
    stretch=8.0,
    scaled_by=256.0,
    normed=True,
)
_CAMERAS = pi0_sizes.PUBLISHED.image.cameras
QWEN3_VL_2B = replace(
    pi0_sizes.PUBLISHED,
    image=Qwen3Pictures(
        cameras=_CAMERAS,
        image_hw=(224, 224),
        patch=16,
        depth=24,
        vision_width=1024,
        vision_mlp=4096,
        heads=16,
        places=48,
        deep=(5, 11, 17),
    ),
    text=replace(
        pi0_sizes.PUBLISHED.text,
        vocabulary=PretrainedVocabulary(
            source="Qwen/Qwen3-VL-2B-Instruct", size=151936, start=None, end=151645, suffix="\n"
        ),
        scaled=False,
    ),
    language=_QWEN3,
    expert=replace(_QWEN3, width=1024, mlp=4096),
    departs=(*PUBLISHED_BOTH, *pi0_sizes.PUBLISHED.departs[1:]),
)
GEMMA3_4B = replace(
    pi0_sizes.PUBLISHED,
    image=PooledPatches(
        cameras=_CAMERAS,
        image_hw=(896, 896),
        patch=14,
        depth=27,
        vision_width=1152,
        vision_mlp=4304,
        heads=16,
        pool=4,
    ),
    text=replace(
        pi0_sizes.PUBLISHED.text,
        vocabulary=PretrainedVocabulary(source="google/gemma-3-4b-it", size=262208, start=2, end=106, suffix="\n"),
    ),
    language=_GEMMA3,
    expert=replace(_GEMMA3, width=1024, mlp=4096),
    departs=(*PUBLISHED_BOTH, *pi0_sizes.PUBLISHED.departs[1:]),
)


def pi0_vlm(size: Pi0Size, name: str) -> Recipe:
    """pi0 whose words are read one after the other."""
    base = pi0(size)
    language = (
        *reads("image", "image"),
        *reads("text", "image"),
        Edge(dst="text", src="text", when="causal"),
    )
    kept = tuple(edge for edge in base.stage.edges if edge.dst not in ("image", "text"))
    return replace(base, name=name, stage=replace(base.stage, edges=(*language, *kept)))


def pi0_qwen3(size: Pi0Size = QWEN3_NANO) -> Recipe:
    """pi0 on Qwen3-VL."""
    return pi0_vlm(size, "pi0_qwen3")


def pi0_gemma3(size: Pi0Size = GEMMA3_NANO) -> Recipe:
    """pi0 on Gemma 3."""
    return pi0_vlm(size, "pi0_gemma3")
