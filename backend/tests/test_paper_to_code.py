"""docs/paper-to-code.md points at code that exists."""

import ast
import re
from pathlib import Path

import pytest

from s3d.cli import parse
from s3d.finetuning.strategies import TABLE_3, strategy_of

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "paper-to-code.md").read_text(encoding="utf-8")
PLACES = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)))


def names_defined_in(file: Path) -> set[str]:
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_place_named_on_the_page_exists(file: str, name: str) -> None:
    assert name in names_defined_in(REPOSITORY / "backend" / "s3d" / file)


def test_the_options_of_each_row_of_table_3_give_that_row() -> None:
    told = {int(row): words.split() for row, words in re.findall(r"^row +(\d+)  (.+)$", PAGE, flags=re.MULTILINE)}
    for row, words in told.items():
        parent = [] if row == 2 else ["--parent", "p"]
        config = parse("finetune", ["--dataset", "d", "--output", "o", *parent, *words])
        assert strategy_of(config, "pretrained", new_channels=False) == TABLE_3[row], row
    assert told.keys() == TABLE_3.keys()


def test_every_table_of_the_paper_is_on_the_page() -> None:
    told = {int(number) for number in re.findall(r"Table (\d+)", PAGE)}
    assert told == set(range(2, 13)), "Table 1 compares earlier work and holds nothing to compute"


def test_every_row_names_code_or_says_later_or_why_not() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| paper", "| what"))]
    assert len(rows) > 40
    for row in rows:
        assert ".py::" in row or "**later**" in row or "not public" in row, row
