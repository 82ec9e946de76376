"""Imports point downwards: the order of the rooms in the architecture page, read from the syntax trees."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from golden import REPOSITORY

PACKAGE = REPOSITORY / "src" / "crossroads"

# From top to bottom; a line may import only lines below it. Rooms on one line know nothing of each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("pilot",),
    ("backbones",),
    ("train", "evaluate", "serve", "cost", "parity"),
    ("recipes",),
    ("build",),
    ("sim", "data"),
    ("policy", "learner", "recipe", "axes", "checks", "schedule_checks", "value_checks", "refusal", "stage"),
    ("net", "history", "schedule", "running", "interpreter"),
    ("codecs", "towers", "objectives"),
    ("layout", "noise", "diffusion", "edm", "solvers", "chunking", "plans", "search", "mixtures", "rotary"),
    ("geometry", "streams", "space"),
    ("types", "errors", "cores", "storage"),
)
LINE: Mapping[str, int] = {room: line for line, rooms in enumerate(ORDER) for room in rooms}
# Parts of the core that share a line are files about one thing and may import each other, but never in a circle.
CORE = frozenset(room for rooms in ORDER[7:] for room in rooms) | {"build"}

# Third-party packages beyond the core, and the rooms that own them at the top of a file.
OWNERS: Mapping[str, frozenset[str]] = {
    "mujoco": frozenset({"sim"}),
    "gymnasium": frozenset({"sim"}),
    "pyarrow": frozenset({"data"}),
    "av": frozenset({"data"}),
    "h5py": frozenset({"data"}),
    "zarr": frozenset({"data"}),
    "google": frozenset({"data"}),
    "google_crc32c": frozenset({"data"}),
    "fsspec": frozenset({"data"}),
    "rerun": frozenset({"data"}),
    "PIL": frozenset({"data", "sim", "evaluate", "pilot", "backbones"}),
    "scipy": frozenset({"evaluate"}),
    "websockets": frozenset({"serve"}),
    "msgpack": frozenset({"serve"}),
    "jinja2": frozenset({"pilot"}),
    "markupsafe": frozenset({"pilot"}),
    "matplotlib": frozenset({"pilot"}),
    "transformers": frozenset({"towers", "codecs"}),
    "diffusers": frozenset({"towers", "codecs"}),
    "tyro": frozenset({"cli"}),
    "ray": frozenset({"pilot"}),
    "tqdm": frozenset({"train", "data", "sim", "evaluate", "pilot", "backbones"}),
}
EVERYWHERE = frozenset({"torch", "numpy", "einops", "jaxtyping", "safetensors", "crossroads"})
# The command line answers --help in a moment, so it opens with nothing heavy.
LIGHT = frozenset({"tyro"})


@dataclass(frozen=True, kw_only=True)
class Import:
    """One imported module or name, and whether it is imported when the file is (not inside a function)."""

    source: str
    target: str
    names: tuple[str, ...]
    at_import: bool
    line: int

    @property
    def top(self) -> str:
        return self.target.split(".")[0]

    @property
    def room(self) -> str:
        parts = self.target.split(".")
        return parts[1] if len(parts) > 1 else self.names[0] if self.names else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def walk(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it runs when the file is imported."""
    for child in ast.iter_child_nodes(node):
        yield child, at_import
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from walk(child, at_import and not inside)


def imports(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """All imports of one file; relative ones are made absolute."""
    found = []
    for node, at_import in walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append(Import(source=module, target=alias.name, names=(), at_import=at_import, line=node.lineno))
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            names = tuple(alias.name for alias in node.names)
            found.append(Import(source=module, target=target, names=names, at_import=at_import, line=node.lineno))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS: Mapping[str, list[Import]] = {
    module_name(path): imports(path.read_text(), module_name(path), is_package=path.name == "__init__.py")
    for path in FILES
}


def wrong_direction(one: Import) -> str:
    """Why this import points the wrong way; empty when it does not."""
    source, target = room_of(one.source), one.room
    if one.top != "crossroads" or not source or not target or source == target:
        return ""
    if target not in LINE:
        return f"{one.source}:{one.line} imports {target}, a room that ORDER does not know"
    if target in ("cli", "pilot", "parity") and source != "cli":
        return f"{one.source}:{one.line} imports {target}; nothing does"
    same_line = LINE[source] == LINE[target]
    if LINE[target] < LINE[source] or (same_line and not {source, target} <= CORE):
        return f"{one.source}:{one.line} ({source}) imports {one.target}, which is not below it"
    return ""


def top_level_stranger(one: Import) -> str:
    """Why this third-party import may not stand at the top of its file; empty when it may."""
    if not one.at_import or one.top in sys.stdlib_module_names:
        return ""
    room = room_of(one.source)
    if room == "cli" and one.top != "crossroads" and one.top not in LIGHT:
        return f"{one.source}:{one.line} imports {one.top}, which the command line must not wait for"
    if one.top in EVERYWHERE or room in OWNERS.get(one.top, frozenset()):
        return ""
    return f"{one.source}:{one.line} ({room}) imports {one.top} at the top of the file; it does not own it"


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_imports_only_rooms_below_its_own(module: str) -> None:
    room = room_of(module)
    assert not room or room in LINE, f"{module}: room {room!r} has no place in ORDER; give it one"
    assert [why for one in IMPORTS[module] if (why := wrong_direction(one))] == []


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_opens_only_with_packages_its_room_owns(module: str) -> None:
    assert [why for one in IMPORTS[module] if (why := top_level_stranger(one))] == []


def test_recipes_use_only_public_names() -> None:
    private = [
        f"{module}:{one.line} imports {name}"
        for module, found in IMPORTS.items()
        if room_of(module) == "recipes"
        for one in found
        if one.top == "crossroads"
        for name in (*one.names, *one.target.split("."))
        if name.startswith("_")
    ]
    assert private == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {
            target
            for one in found
            if one.at_import
            for target in (one.target, *(f"{one.target}.{name}" for name in one.names))
            if target in IMPORTS and target != module and target != "crossroads"
        }
        for module, found in IMPORTS.items()
    }
    assert circle(graph) == []


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules that are left when those without imports are taken away again and again: empty without a circle."""
    left = {module: set(targets) for module, targets in graph.items()}
    while free := [module for module, targets in left.items() if not targets]:
        for module in free:
            del left[module]
        for targets in left.values():
            targets.difference_update(free)
    return sorted(left)


@pytest.mark.parametrize(
    ("module", "source", "culprit"),
    [
        ("crossroads.net", "from crossroads.policy import Policy", "not below"),
        ("crossroads.recipes.pi0", "def f():\n    from crossroads.pilot.run import run", "nothing does"),
        ("crossroads.pilot.run", "import crossroads.parity.case", "nothing does"),
        ("crossroads.train.loop", "import crossroads.evaluate.records", "not below"),
        ("crossroads.sim.env", "from crossroads.data.writer import LeRobotWriter", "not below"),
        ("crossroads.types", "from .space import ActionSpace", "not below"),
        ("crossroads.net", "from crossroads import policy", "not below"),
        ("crossroads.net", "from crossroads.wheelhouse import x", "does not know"),
    ],
)
def test_the_rule_sees_an_import_that_points_upwards(module: str, source: str, culprit: str) -> None:
    assert culprit in "".join(wrong_direction(one) for one in imports(source, module))


def test_the_rule_sees_strangers_and_circles() -> None:
    assert top_level_stranger(imports("import mujoco", "crossroads.net")[0])
    assert top_level_stranger(imports("import torch", "crossroads.cli")[0])
    assert top_level_stranger(imports("class A:\n    import scipy", "crossroads.train.loop")[0])
    assert not top_level_stranger(imports("def f():\n    import mujoco", "crossroads.cli")[0])
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["a", "b", "c"]
