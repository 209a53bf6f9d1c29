"""The rooms of the package: who may import whom, and who may print."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import processes
import pytest

import selfembed
from selfembed.objectives import OBJECTIVES

SOURCE = Path(selfembed.__file__).parent
# From the ground up; a room imports from lower floors only, never from its own floor's other rooms.
FLOORS = (
    {"errors"},
    {"ground"},
    {"data", "model"},
    {"encoding"},
    {"targets", "evaluation", "search"},  # to evaluate or search takes encoding, data and a model
    {"losses"},
    {"objectives", "calibration"},
    {"recipes"},
    {"training"},
    {"doctor"},
    {"explanation"},
    {"terminal"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


MOST_LINES = 400


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in sorted(SOURCE.rglob("*.py"))}
INSIDE = {name: file for name, file in FILES.items() if name != "__init__"}  # the root only forwards names, lazily


def imports(tree: ast.AST) -> set[str]:
    """Modules of the package that a tree imports, with the package's name taken off."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name.removeprefix("selfembed.") for name in found if name.startswith("selfembed.")}
    return {name if name in INSIDE else name.rpartition(".")[0] for name in names}


TREES = {name: ast.parse(file.read_text()) for name, file in INSIDE.items()}


def at_module_level(tree: ast.Module) -> set[str]:
    """Without what waits in functions or is for type checkers only."""
    lazy = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If)
    return {name for node in tree.body if not isinstance(node, lazy) for name in imports(node)}


def test_the_map_shows_every_room_and_floor():
    text = (SOURCE.parent.parent / "CONTRIBUTING.md").read_text()
    drawn = [set(rooms.split(", ")) for rooms in re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE)]
    assert drawn == list(FLOORS[:-1])
    tree = text.partition("src/selfembed/")[2].partition("tests/")[0]
    words = set(re.findall(r"\w+", tree))
    shown = {name.split(".")[-1] for name in INSIDE if name.split(".")[0] not in ("objectives", "recipes", "terminal")}
    assert sorted(name for name in shown - words if f"explanation.report.{name}" not in INSIDE) == ["__main__"]


def test_every_module_has_a_floor():
    assert len(INSIDE) > 20
    assert {name.split(".")[0] for name in INSIDE} <= FLOOR.keys()


def test_no_file_over_400_lines():
    lines = {name: len(file.read_text().splitlines()) for name, file in FILES.items()}
    assert sum(lines.values()) > 10_000, "files are counted"
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}


# What of other libraries is private and used all the same, each in one file that says why.
PRIVATE = {
    ("argparse", "_SubParsersAction"),
    ("evaluation.mteb_statistics", "_calculate_descriptive_statistics_from_split"),
    ("terminal.wording", "_actions"),
}


def private_names(name: str, tree: ast.AST) -> set[tuple[str, str]]:
    """Private attributes of anything but the object itself, by where they are used."""
    return {
        (node.value.id if isinstance(node.value, ast.Name) and node.value.id == "argparse" else name, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }


def test_private_names_of_others_are_few():
    assert set().union(*(private_names(name, tree) for name, tree in TREES.items())) <= PRIVATE
    assert private_names("x", ast.parse("del model._quantizer")) == {("x", "_quantizer")}


@pytest.mark.parametrize("name", INSIDE)
def test_rooms_import_from_lower_floors_only(name):
    room = name.split(".")[0]
    for imported in imports(TREES[name]):
        assert imported, f"{name} imports from the root of the package"
        other = imported.split(".")[0]
        assert other == room or FLOOR[other] < FLOOR[room], f"{name} imports {imported}"


def test_the_parser_of_this_test_sees_imports():
    assert {"model.backbone", "data.corpus", "targets.data_driven", "ground.files"} <= at_module_level(
        TREES["targets.cache"]
    )
    terminal = TREES["terminal.train"]
    assert "training.run" in imports(terminal) and "training.run" not in at_module_level(terminal)


def test_no_cycles():
    graph = {name: at_module_level(tree) - {name} for name, tree in TREES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) >= len(INSIDE)


OBJECTIVE_CLASSES = {kind.__name__ for kind in OBJECTIVES.values()}
OBJECTIVE_FILES = {kind.__module__.removeprefix("selfembed.") for kind in OBJECTIVES.values()}


def named_objectives(tree: ast.Module) -> list[str]:
    """Objectives that a tree names: their classes and files in code, their registered names in strings.

    In prose a registered name that is a plain English word may stand for what it means; a string of that word alone
    is taken for the name.
    """
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = sorted(imports(tree) & OBJECTIVE_FILES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute | ast.alias | ast.ClassDef):
            name = getattr(node, "id", None) or getattr(node, "attr", None) or node.name
            found += [name] if name in OBJECTIVE_CLASSES else []
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words = set(re.findall(r"\w+", node.value))
            found += sorted(words & OBJECTIVE_CLASSES)
            found += [name for name in OBJECTIVES if node.value == name or ("_" in name and name in words)]
    return found


def test_only_objectives_and_recipes_name_an_objective():
    elsewhere = {name: tree for name, tree in TREES.items() if name.split(".")[0] not in ("objectives", "recipes")}
    assert {name: found for name, tree in elsewhere.items() if (found := named_objectives(tree))} == {}


@pytest.mark.parametrize(
    "code",
    [
        "from selfembed.objectives.two_views import TwoViews",
        "import selfembed.objectives.two_views",
        "x = isinstance(objective, kinds.TwoViews)",
        "if kind == 'TwoViews': pass",
        "steps = settings['two_views.steps']",
        "if name == 'compression': pass",
    ],
)
def test_the_test_of_names_sees_them(code):
    assert named_objectives(ast.parse(code))


def test_the_test_of_names_lets_prose_be():
    assert not named_objectives(ast.parse('"""Compression of two_views."""\nx = "compression: gzip"'))
    assert named_objectives(TREES["recipes.llm2comp"])


def printing_lines(tree: ast.AST) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def test_only_the_command_line_prints():
    assert printing_lines(TREES["terminal.train"])
    trees = {name: tree for name, tree in TREES.items() if not name.startswith("terminal.")}
    trees["__init__"] = ast.parse(FILES["__init__"].read_text())
    assert {name: lines for name, tree in trees.items() if (lines := printing_lines(tree))} == {}


FLAG = re.compile(r"(?<![\w-])--[a-z]")


def flags_named(tree: ast.AST) -> list[str]:
    """Strings that name an option; style sheets and what is said to be typed for pip are none."""
    formed = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inside = {id(part) for node in formed for part in ast.walk(node) if part is not node}
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in inside]
    texts = [str(node.value) for node in plain]
    texts += ["".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)) for node in formed]
    return [text for text in texts if FLAG.search(text) and not re.search("pip install|var\\(--", text)]


def test_the_library_names_no_command_line_option():
    assert flags_named(TREES["terminal.train"])
    named = {name: flags_named(tree) for name, tree in TREES.items() if not name.startswith("terminal.")}
    assert {name: found for name, found in named.items() if found} == {}


def test_public_names_are_there():
    assert selfembed.__all__ == sorted(selfembed.__all__)
    assert set(selfembed.__all__) == selfembed._HOMES.keys() and len(selfembed.__all__) <= 12
    assert dir(selfembed) == selfembed.__all__
    assert {"load_embedder", "evaluate", "compare", "explain"} <= set(dir(selfembed))
    for name in selfembed.__all__:
        assert selfembed.__getattr__(name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'tain'"):
        selfembed.tain  # noqa: B018


def test_scores_are_read_and_compared_without_mteb():
    modules = [name for name in INSIDE if name.startswith("encoding.")]
    modules += ["evaluation.compare", "evaluation.run", "explanation.reading"]
    imported = "; ".join(f"import selfembed.{name}" for name in modules)
    code = f"import sys; {imported}; exit(bool({{'mteb', 'matplotlib', 'sklearn.cluster'}} & sys.modules.keys()))"
    assert processes.run(code).returncode == 0


def test_train_is_the_function_whatever_was_imported_first():
    code = "import selfembed.training.run; from selfembed import train; exit(not hasattr(train, '__code__'))"
    assert processes.run(code).returncode == 0
