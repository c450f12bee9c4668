"""Every concept has its room, and imports point one way between them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "tje_middleware"
INTEGRATIONS = ROOT / "integrations"

#: From the bottom up; a room may import only what stands on a line above its own.
FLOORS = (
    ("errors", "_version", "_lazy", "_process"),
    ("storage", "logprobs"),
    ("signals",),
    ("calls", "records"),
    ("calibration",),
    ("gate",),
    ("branches", "registry", "evaluation"),
    ("ledger",),
    ("local", "demo"),
    ("__init__",),
    ("langchain_tje", "llama_index_tje"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted([*CORE.rglob("*.py"), *INTEGRATIONS.rglob("*.py")])


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module, given as the parts of its dotted name."""
    if parts[0] != "tje_middleware":
        return parts[0]
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(file: Path) -> tuple[str, ...]:
    """The parts of a file's dotted name."""
    parts = file.relative_to(INTEGRATIONS if INTEGRATIONS in file.parents else ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_by(file: Path) -> Iterator[tuple[str, ...]]:
    """The modules of this project that a file imports, wherever in it."""
    package = module_of(file) if file.name == "__init__.py" else module_of(file)[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            # ``from . import calls`` names modules, ``from .calls import log`` may.
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        yield from (name for name in names if name[0] in {"tje_middleware", *FLOORS[-3]})


def test_the_top_of_the_package_holds_the_rooms_and_nothing_else() -> None:
    found = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found == {room for rooms in FLOORS for room in rooms} - set(FLOORS[-3])


def test_every_room_says_in_its_first_line_what_a_stranger_finds_in_it() -> None:
    inits = [file for file in FILES if file.name == "__init__.py"]
    assert [str(file) for file in inits if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_only_from_its_own_room_and_from_those_below(file: Path) -> None:
    here = room_of(module_of(file))
    if here == "__init__":  # it names every public name, and imports each when it is first used
        return
    climbs = [
        ".".join(name)
        for name in imported_by(file)
        if (there := room_of(name)) != here and there in FLOOR_OF and FLOOR_OF[there] >= FLOOR_OF[here]
    ]
    assert climbs == []


def test_no_files_import_one_another_in_a_circle() -> None:
    files = {module_of(file): file for file in FILES if module_of(file) != ("tje_middleware",)}
    graph = {
        module: {
            target
            for name in imported_by(file)
            # A name is a module itself, or stands in one.
            for target in [name if name in files else name[:-1]]
            if target in files and target != module
        }
        for module, file in files.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
