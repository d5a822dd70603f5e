"""docs/data.md describes every data set that a test reads, with its licence."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Public sets") : PAGE.index("### How")]
DESCRIBED = {row.split("|")[1].strip(" `"): row for row in SECTION.splitlines() if row.startswith("| `")}


def test_every_set_that_a_test_reads_is_described() -> None:
    read: set[str] = set()
    for file in (REPOSITORY / "backend" / "tests").rglob("*.py"):
        read |= set(re.findall(r'test_data\s*/\s*f?"(\w+)', file.read_text(encoding="utf-8")))
    assert "msd_task04_hippocampus" in read
    assert read <= set(DESCRIBED)


def test_a_test_that_reads_every_image_makes_every_set_a_read_one() -> None:
    tests = [file for file in (REPOSITORY / "backend" / "tests").rglob("test_*.py") if file != Path(__file__)]
    assert any(re.search(r"test_data\.r?glob\(", file.read_text(encoding="utf-8")) for file in tests)
    assert "not read by a test" not in PAGE
    used = PAGE[PAGE.index("### How") : PAGE.index("### Layout")]
    assert [name for name in DESCRIBED if f"`{name}`" not in used] == []
    assert "test_image_integrity.py" in used


def test_each_set_has_an_address_and_a_licence() -> None:
    for name, row in DESCRIBED.items():
        address, licence, allowed = (cell.strip() for cell in row.strip("|").split("|")[2:])
        assert "see below" in address or "<http" in address, name
        assert re.search(r"CC BY|MIT|Apache|BSD", licence), name
        assert "tests only" in allowed or "NC" not in licence, f"{name} is non-commercial: tests only"
