"""The library's rooms: what imports what, where each file's tests are, and that the README lists every file."""

import ast
import functools
import re
from pathlib import Path

import pytest

from .support.tiny import ROOT

LIBRARY = ROOT / "src" / "preferans"
ROOMS = ("text", "hardware", "data", "models", "training", "memory", "evaluation", "release", "people")
# A room may import the ground floor (files that are in no room) and these rooms.
BELOW = {
    "text": (),
    "hardware": (),
    "data": ("text",),
    "models": ("text", "hardware", "data"),
    "training": ("text", "hardware", "data", "models"),
    "memory": ("hardware", "data", "models", "training"),
    "evaluation": ("text", "data", "models"),
    "release": ROOMS[:-2],
    "people": ("text", "data", "models", "evaluation"),
}
FILES = {
    ".".join(path.relative_to(LIBRARY).with_suffix("").parts): path
    for path in sorted(LIBRARY.rglob("*.py"))
    if path.name != "__init__.py"
}
OPTIONAL = {"openai", "gguf", "winreg", "resource", "triton"}


def room_of(name: str) -> str | None:
    return name.split(".")[0] if "." in name else None


@functools.cache
def imports_of(name: str) -> frozenset[str]:
    """Library files that a file imports, anywhere in it."""
    package = name.split(".")[:-1]
    imported = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                imported |= {".".join([*base, alias.name]), ".".join(base)} & FILES.keys()
    return frozenset(imported - {name})


@functools.cache
def floor_of(name: str) -> int:
    return 1 + max(map(floor_of, imports_of(name)), default=0)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_rooms_below(name):
    allowed = {None, room_of(name), *BELOW.get(room_of(name), ())}
    assert {room_of(other) for other in imports_of(name)} <= allowed


def test_no_import_cycle_and_at_most_nine_floors():
    assert max(map(floor_of, FILES)) <= 9  # a cycle would recurse forever


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_its_test_file(name):
    *room, file = name.split(".")
    assert (ROOT / "tests" / Path(*room) / f"test_{file}.py").is_file()


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "scripts").glob("*.py"))])
def test_scripts_import_nothing_inside_functions(name):
    tree = ast.parse((ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [
        node for function in functions for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def test_a_public_name_means_one_thing():
    homes: dict[str, list[str]] = {}
    for name, path in FILES.items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            defined = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                defined = [
                    leaf.id for target in node.targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)
                ]
            for public in defined:
                if not public.startswith("_"):
                    homes.setdefault(public, []).append(name)
    assert not {public: names for public, names in homes.items() if len(names) > 1}


def test_the_readme_lists_every_file():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"### The library\n.*?```\n(.*?)```", text, re.DOTALL)[1]
    room, listed = [], []
    for line in tree.splitlines():
        indent, word = re.match(r"( *)([\w/]+)", line).groups()
        if word.endswith("/"):
            room = [*room[: len(indent) // 2], word.rstrip("/")]
        else:
            listed.append(".".join([*room[: len(indent) // 2], word]))
    assert sorted(listed) == sorted(FILES)
