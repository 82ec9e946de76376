"""Frozen parts of published checkpoints that we load and never train: tokenisers, encoders, video autoencoders.

``source`` is a repository name of the model hub or a local folder. The packages that read them come with the extra
``backbones`` and are imported when a part is first used, so that recipes at published size can be shown, compared and
costed without them. A part is loaded to the CPU, once in a process; who uses it moves it to where the policy runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from crossroads.errors import InputError


@contextmanager
def _loading(package: str, part: str, source: str, subfolder: str = "") -> Iterator[None]:
    """Says what is missing where a part cannot be loaded: the package, or the files."""
    where = f"{part} of {source}"
    try:
        yield
    except ImportError as error:
        raise InputError(
            where=where,
            expected=f"the package {package}",
            got=str(error),
            do="Install it: pip install 'crossroads[backbones]'.",
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            where=where,
            expected=f"its files in {subfolder or 'the top folder'!r} (hub repository or local folder)",
            got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            do="Log in to the hub, accept the model's licence there, or give a local folder as source.",
        ) from error


@cache
def tokeniser(source: str, subfolder: str) -> Any:
    """The tokeniser of a published language model."""
    with _loading("transformers", "tokeniser", source, subfolder):
        from transformers import AutoTokenizer  # pyright: ignore[reportMissingImports]

        return AutoTokenizer.from_pretrained(source, subfolder=subfolder)


@cache
def fast_files(source: str) -> Path:
    """The folder of a published FAST tokeniser."""
    if Path(source).is_dir():
        return Path(source)
    with _loading("huggingface_hub", "FAST tokeniser", source, ""):
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]

        return Path(snapshot_download(source, allow_patterns=["*.json"]))


@cache
def text_encoder(source: str, subfolder: str) -> Any:
    """The UMT5 encoder of a published video model, in bfloat16."""
    with _loading("transformers", "text encoder", source, subfolder):
        from transformers import UMT5EncoderModel  # pyright: ignore[reportMissingImports]

        model = UMT5EncoderModel.from_pretrained(source, subfolder=subfolder, torch_dtype=torch.bfloat16)
    if not model.encoder.embed_tokens.weight.any():
        # transformers issue 43992: some releases leave the encoder's embedding untied, all zeros, with a warning only
        raise InputError(
            where=f"text encoder of {source}",
            expected="embeddings that were loaded",
            got="all zeros (transformers issue 43992)",
            do="Install another release of transformers.",
        )
    return model.eval().requires_grad_(False)


@cache
def clip_text_encoder(source: str, subfolder: str) -> Any:
    """The text encoder of a published CLIP, alone or of a published image model."""
    with _loading("transformers", "text encoder", source, subfolder):
        from transformers import CLIPTextModel  # pyright: ignore[reportMissingImports]

        model = CLIPTextModel.from_pretrained(source, subfolder=subfolder)
    return model.eval().requires_grad_(False)


@cache
def video_encoder(source: str) -> Any:
    """The encoder of a published V-JEPA 2 (Assran et al. 2025, arXiv 2506.09985)."""
    with _loading("transformers", "video encoder", source):
        from transformers import VJEPA2Model  # pyright: ignore[reportMissingImports]

        model = VJEPA2Model.from_pretrained(source)
    return model.eval().requires_grad_(False)


@cache
def reason_encoder(source: str, subfolder: str) -> Any:
    """The Cosmos-Reason1 (a Qwen2.5-VL) that encodes the words of a Cosmos-Predict2.5 release, in bfloat16."""
    with _loading("transformers", "language encoder", source, subfolder):
        from transformers import Qwen2_5_VLForConditionalGeneration  # pyright: ignore

        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            source, subfolder=subfolder, torch_dtype=torch.bfloat16
        )
    return model.eval().requires_grad_(False)


@cache
def image_encoder(source: str, subfolder: str) -> Any:
    """The CLIP encoder of a published image-to-video model."""
    with _loading("transformers", "image encoder", source, subfolder):
        from transformers import CLIPVisionModel  # pyright: ignore[reportMissingImports]

        model = CLIPVisionModel.from_pretrained(source, subfolder=subfolder)
    return model.eval().requires_grad_(False)


@cache
def sentence_encoder(source: str) -> Any:
    """The text encoder of a published CLIP, with its projection."""
    with _loading("transformers", "text encoder", source):
        from transformers import CLIPTextModelWithProjection  # pyright: ignore[reportMissingImports]

        model = CLIPTextModelWithProjection.from_pretrained(source)
    return model.eval().requires_grad_(False)


@cache
def masked_autoencoder(source: str) -> Any:
    """The encoder of a published masked autoencoder (He et al. 2022, arXiv 2111.06377), which masks nothing here."""
    with _loading("transformers", "image encoder", source):
        from transformers import ViTMAEModel  # pyright: ignore[reportMissingImports]

        model = ViTMAEModel.from_pretrained(source, mask_ratio=0.0)
    return model.eval().requires_grad_(False)


@cache
def vision_encoder(source: str) -> Any:
    """A published DINOv2 (Oquab et al. 2024, arXiv 2304.07193)."""
    with _loading("transformers", "image encoder", source):
        from transformers import Dinov2Model  # pyright: ignore[reportMissingImports]

        model = Dinov2Model.from_pretrained(source)
    return model.eval().requires_grad_(False)


@cache
def encoder_of(source: str) -> Any:
    """An encoder of pictures or of words, whatever its files say it is."""
    with _loading("transformers", "encoder", source):
        from transformers import AutoModel  # pyright: ignore[reportMissingImports]

        model = AutoModel.from_pretrained(source)
    return model.eval().requires_grad_(False)


@cache
def voltron_weights(source: str) -> dict[str, torch.Tensor]:
    """The tensors of a Voltron release, without its language model and without the tables that are computed."""
    with _loading("huggingface_hub", "Voltron", source):
        path = Path(source) / "model.safetensors"
        if not Path(source).is_dir():
            from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]

            path = Path(hf_hub_download(source, "model.safetensors"))
        found = load_file(path)
    return {name: tensor for name, tensor in found.items() if name != "prefix_mask" and not name.startswith("lm.")}


@cache
def image_text_model(source: str, layers: int = 0) -> Any:
    """A published vision-language model, in bfloat16; ``layers``: cut behind so many, with the last norm."""
    with _loading("transformers", "vision-language model", source):
        from transformers import AutoModelForImageTextToText  # pyright: ignore[reportMissingImports]

        model = AutoModelForImageTextToText.from_pretrained(source, torch_dtype=torch.bfloat16)
    if layers:
        language: Any = model.get_decoder()
        language.layers, language.norm = language.layers[:layers], torch.nn.Identity()
    return model.eval().requires_grad_(False)


@cache
def image_text_processor(source: str) -> Any:
    """What makes the inputs of a published vision-language model from pictures and words."""
    with _loading("transformers", "processor", source):
        from transformers import AutoProcessor  # pyright: ignore[reportMissingImports]

        return AutoProcessor.from_pretrained(source)


@cache
def clip_autoencoder(source: str, subfolder: str) -> Any:
    """The autoencoder of Stable Video Diffusion."""
    with _loading("diffusers", "video autoencoder", source, subfolder):
        from diffusers import AutoencoderKLTemporalDecoder  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]

        model = AutoencoderKLTemporalDecoder.from_pretrained(source, subfolder=subfolder or None)
    return model.eval().requires_grad_(False)


@cache
def video_autoencoder(source: str, subfolder: str) -> Any:
    """The Wan video autoencoder of a published video model."""
    with _loading("diffusers", "video autoencoder", source, subfolder):
        from diffusers import AutoencoderKLWan  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]

        model = AutoencoderKLWan.from_pretrained(source, subfolder=subfolder)
    return model.eval().requires_grad_(False)


@cache
def image_autoencoder(source: str, subfolder: str) -> Any:
    """The autoencoder of a published image diffusion model."""
    with _loading("diffusers", "image autoencoder", source, subfolder):
        from diffusers import AutoencoderKL  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]

        model = AutoencoderKL.from_pretrained(source, subfolder=subfolder or None)
    return model.eval().requires_grad_(False)
