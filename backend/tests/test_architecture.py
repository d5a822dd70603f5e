"""The house rules that no other tool holds: imports point downwards, configs stay light, files stay small."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "s3d"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the top of the house to its ground; a floor may import from its own rooms and from those below.
FLOORS = (
    ("cli",),
    ("demo", "doctor"),
    ("pretraining", "finetuning", "preparation"),
    ("inference",),
    ("evaluation",),
    ("interop", "golden"),
    ("training", "data"),
    ("models", "bundle"),
    ("masking",),
    ("config", "errors", "progress", "atomic_files"),
)
HEIGHT = {room: -depth for depth, floor in enumerate(FLOORS) for room in floor}

# Besides every config.py: what the command line and, later, the server import before any work starts.
ALSO_WITHOUT_TORCH = ("s3d.cli", "s3d.bundle", "s3d.progress", "s3d.models.presets")


def module_name(file: Path) -> str:
    return ".".join(["s3d", *file.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The part of the package that a module belongs to: s3d.data.patches is in data."""
    return module.split(".")[1]


def imported_modules(file: Path) -> set[str]:
    """Every module of the package that a file imports, within functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from s3d import bundle` names a module on the right, `from s3d.bundle import Label` on the left.
            found |= {f"s3d.{alias.name}" for alias in node.names} if node.module == "s3d" else {node.module}
    return {name for name in found if name.startswith("s3d.")}


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_imports_point_downwards(file: Path) -> None:
    name = module_name(file)
    if name == "s3d":
        return
    height = HEIGHT[room_of(name)]
    upwards = sorted(module for module in imported_modules(file) if HEIGHT[room_of(module)] > height)
    assert not upwards, f"{name} imports from above: {', '.join(upwards)}"


def test_rooms_of_one_floor_do_not_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file in FILES:
        name = module_name(file)
        if name != "s3d":
            rooms = {room_of(module) for module in imported_modules(file)} - {room_of(name)}
            graph.setdefault(room_of(name), set()).update(rooms)
    tuple(graphlib.TopologicalSorter(graph).static_order())


def test_relative_imports_are_not_used() -> None:
    """They would escape the check of the order."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{module_name(file)} line {node.lineno}"


def test_configurations_and_the_command_line_load_without_torch() -> None:
    light = [module_name(file) for file in FILES if file.name == "config.py"] + list(ALSO_WITHOUT_TORCH)
    code = f"""
import importlib, sys
for name in {light!r}:
    importlib.import_module(name)
    if "torch" in sys.modules:
        print(name)
        break
"""
    assert run_python(code) == "", "this module is the first to load torch"


def test_segmenting_loads_nothing_that_only_training_or_scoring_needs() -> None:
    heavy = ("monai", "matplotlib", "nilearn", "sklearn", "pandas")
    code = f"import sys, s3d.inference.run; print(*[name for name in {heavy!r} if name in sys.modules])"
    assert run_python(code) == ""


def test_package_files_that_mark_folders_are_empty() -> None:
    filled = [module_name(file) for file in FILES if file.name == "__init__.py" and file.read_text(encoding="utf-8")]
    assert not filled


def test_every_folder_of_code_is_a_package() -> None:
    folders = {file.parent for file in FILES}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").exists()]


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "__init__.py"], ids=module_name)
def test_a_file_is_short_and_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, "split it"
    assert ast.get_docstring(ast.parse(text)), "its first line must say what it is"
    assert file.stem not in {"utils", "util", "helpers", "misc", "common"}, "name it after its idea"
