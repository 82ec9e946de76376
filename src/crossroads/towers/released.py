"""Networks of published image and video models, read from their own format to start a tower from them.

``source`` is a repository of the model hub or a local folder, as ``diffusers`` writes it; what is read is copied into
our tower, whose sizes must be those of the release.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from crossroads.errors import InputError


def read_network(kind: str, source: str, subfolder: str) -> Any:
    """A network of one of diffusers' classes, with its released weights.

    Raises:
        InputError: diffusers or the files are missing.
    """
    where = f"{kind} of {source}"
    try:
        import diffusers  # pyright: ignore[reportMissingImports]

        return getattr(diffusers, kind).from_pretrained(source, subfolder=subfolder or None)
    except ImportError as error:
        raise InputError(
            where=where,
            expected="the package diffusers",
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


def take_over(ours: nn.Module, theirs: nn.Module, where: str) -> None:
    """Copy all weights of a network into ours; both have the same names and shapes, or nothing is copied."""
    own, given = ours.state_dict(), theirs.state_dict()
    unlike = [name for name in own.keys() | given.keys() if name not in own or name not in given]
    unlike += [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
    if unlike:
        raise InputError(
            where=where,
            expected=f"the {len(own)} weights of our network, in its shapes",
            got=f"{len(unlike)} that are missing, unknown or of another shape, such as {min(unlike)!r}",
            do="Give the tower the sizes of the release.",
        )
    ours.load_state_dict(given)
