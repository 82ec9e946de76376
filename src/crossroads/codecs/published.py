"""Frozen parts of published checkpoints that we load and never train: tokeniser, text encoder, video autoencoder.

``source`` is a repository name of the model hub or a local folder. The packages that read them come with the extra
``backbones`` and are imported when a part is first used, so that recipes at published size can be shown, compared and
costed without them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch

from crossroads.errors import InputError


@cache
def tokeniser(source: str, subfolder: str) -> Any:
    """The tokeniser of a published language model."""
    try:
        from transformers import AutoTokenizer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        _missing("transformers", f"the tokeniser of {source}", error)
    try:
        return AutoTokenizer.from_pretrained(source, subfolder=subfolder)
    except (OSError, ValueError) as error:
        _unreadable("tokeniser", source, subfolder, error)


@cache
def fast_files(source: str) -> Path:
    """The folder of a published FAST tokeniser."""
    if Path(source).is_dir():
        return Path(source)
    try:
        from huggingface_hub import snapshot_download  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        _missing("huggingface_hub", f"the FAST tokeniser of {source}", error)
    try:
        return Path(snapshot_download(source, allow_patterns=["*.json"]))
    except Exception as error:  # the hub's client raises many kinds: offline, unknown, not allowed
        _unreadable("FAST tokeniser", source, "", error)


@cache
def text_encoder(source: str, subfolder: str) -> Any:
    """The UMT5 encoder of a published video model, in bfloat16."""
    try:
        from transformers import UMT5EncoderModel  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        _missing("transformers", f"the text encoder of {source}", error)
    try:
        model = UMT5EncoderModel.from_pretrained(source, subfolder=subfolder, torch_dtype=torch.bfloat16)
    except (OSError, ValueError) as error:
        _unreadable("text encoder", source, subfolder, error)
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
def video_autoencoder(source: str, subfolder: str) -> Any:
    """The Wan video autoencoder of a published video model."""
    try:
        from diffusers import AutoencoderKLWan  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]
    except ImportError as error:
        _missing("diffusers", f"the video autoencoder of {source}", error)
    try:
        model = AutoencoderKLWan.from_pretrained(source, subfolder=subfolder)
    except (OSError, ValueError) as error:
        _unreadable("video autoencoder", source, subfolder, error)
    return model.eval().requires_grad_(False)


def _missing(package: str, part: str, error: ImportError) -> NoReturn:
    raise InputError(
        where=part,
        expected=f"the package {package}",
        got=str(error),
        do="Install it: pip install 'crossroads[backbones]'.",
    ) from error


def _unreadable(part: str, source: str, subfolder: str, error: Exception) -> NoReturn:
    raise InputError(
        where=f"{part} of {source}",
        expected=f"its files in {subfolder or 'the top folder'!r} (hub repository or local folder)",
        got=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
        do="Log in to the hub, accept the model's licence there, or give a local folder as source.",
    ) from error
