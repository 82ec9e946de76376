"""``crossroads``: one small class per command. Everything heavy is imported inside a command, so ``--help`` is quick.

What a person wrote wrongly ends with one message on standard error and exit status 2; Ctrl-C with status 130.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence

import tyro

from crossroads.cli.data import Audit, Backbones, Data, DataCheck, DataConvert, DataRecord, DataRerun, DataView
from crossroads.cli.parity import Parity
from crossroads.cli.pilot import Pilot, Study
from crossroads.cli.recipes import Cost, Diff, Export, Import, Recipes, Show
from crossroads.cli.train import Eval, Language, Train, Video
from crossroads.errors import InputError, nearest

COMMANDS: Mapping[str, type] = {
    "recipes": Recipes,
    "show": Show,
    "diff": Diff,
    "import": Import,
    "export": Export,
    "train": Train,
    "eval": Eval,
    "video": Video,
    "language": Language,
    "pilot": Pilot,
    "study": Study,
    "data": Data,
    "audit": Audit,
    "backbones": Backbones,
    "cost": Cost,
    "parity": Parity,
}
DATA_COMMANDS: Mapping[str, type] = {
    "record": DataRecord,
    "convert": DataConvert,
    "check": DataCheck,
    "view": DataView,
    "rerun": DataRerun,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (arguments that cannot be read leave by SystemExit, status 2)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_spelling(arguments)
        command = tyro.extras.subcommand_cli_from_dict(
            dict(COMMANDS),
            args=arguments,
            prog="crossroads",
            description="VLA or WAM? A matched comparison of robot policies on your own data.",
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        status = command.run() or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader (`head`, say) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if not extra:
            raise
        print(
            f"crossroads: this command needs the package {error.name!r}. Run: pip install 'crossroads[{extra}]'",
            file=sys.stderr,
        )
        return 2


def _check_spelling(arguments: Sequence[str]) -> None:
    """Suggest the nearest name for a misspelt command or option, which tyro does not always do."""
    known, where = dict(COMMANDS), "crossroads"
    words = [*arguments]
    while known and words and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in known:
            raise InputError(where=where, expected="a command", got=repr(name), do=nearest(name, known))
        chosen, where = known[name], f"{where} {name}"
        if chosen is Data:
            known = dict(DATA_COMMANDS)
            continue
        options = {f"--{field.name.rstrip('_').replace('_', '-')}" for field in dataclasses.fields(chosen)}
        options |= {f"--no-{option[2:]}" for option in options} | {"--help"}
        for word in words:
            option = word.split("=")[0].replace("_", "-")
            if word.startswith("--") and option not in options:
                shown = [option for option in options if not option.startswith("--no-")]
                raise InputError(where=where, expected="an option", got=repr(word), do=nearest(option, shown))
        return


def _extra_of(package: str) -> str:
    """The optional extra that brings a package; empty for what no extra brings."""
    extras = {
        "data": ("pyarrow", "av", "PIL"),
        "formats": ("h5py", "zarr", "google_crc32c", "google"),
        "sim": ("mujoco", "gymnasium"),
        "report": ("jinja2", "matplotlib", "scipy", "markupsafe"),
        "serve": ("websockets", "msgpack"),
        "ray": ("ray",),
        "video": ("lpips",),
        "rerun": ("rerun",),
        "stream": ("fsspec", "s3fs", "aiohttp"),
    }
    return next((extra for extra, packages in extras.items() if package.split(".")[0] in packages), "")
