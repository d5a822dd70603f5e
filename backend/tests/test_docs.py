"""Code and pages refer to each other: every page, section and heading that one of them names is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {page.name: page for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))}
NUMBER = r"\d+(?:\.\d+)?"
SECTIONS = re.compile(rf"([\w-]+\.md)(?: sections?)? ({NUMBER}(?:(?:,|,? and| to)(?: section)? {NUMBER})*)(?![\w%])")
HEADING = re.compile(r"([\w-]+\.md), ([A-Za-z][a-z ]*)(?=[;)])")
NAMED = re.compile(r"(?<![\w/*.-])(?:docs/)?(?:decisions/)?([\w-]+\.md)\b")
TEXTS = {
    str(file.relative_to(REPOSITORY)): re.sub(r"\s*\n\s*#?\s*", " ", file.read_text(encoding="utf-8"))
    for file in (*PAGES.values(), *(REPOSITORY / "backend" / "s3d").rglob("*.py"), *Path(__file__).parent.rglob("*.py"))
    if file != Path(__file__)
}


def sections_of(page: str) -> set[str]:
    """Numbers of the headings, and 0.N for the points of a numbered list under heading 0."""
    text = PAGES[page].read_text(encoding="utf-8")
    found = set(re.findall(rf"^#+ ({NUMBER})\.? ", text, flags=re.MULTILINE))
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        found |= {f"{part[0]}.{point}" for point in re.findall(r"^(\d+)\. ", part[1:], flags=re.MULTILINE)}
    return found


def references(pattern: re.Pattern[str]) -> list[tuple[str, str, str]]:
    """Where, page, and what of it is meant."""
    return [(place, *match.groups()) for place, text in TEXTS.items() for match in pattern.finditer(text)]


def test_every_page_that_is_named_exists() -> None:
    named = {(place, name) for place, text in TEXTS.items() for name in NAMED.findall(text)}
    assert ("backend/s3d/masking.py", "method.md") in named
    assert sorted((place, name) for place, name in named if name not in PAGES) == []


def test_every_section_that_is_named_exists() -> None:
    named = [
        (place, page, number) for place, page, numbers in references(SECTIONS) for number in re.findall(NUMBER, numbers)
    ]
    assert len(named) > 60
    assert {"0.7", "2", "4", "6.4", "11"} <= {number for _, page, number in named if page == "method.md"}
    assert [(place, page, number) for place, page, number in named if number not in sections_of(page)] == []


def test_every_heading_that_is_named_exists() -> None:
    named = references(HEADING)
    assert {"geometry", "left and right"} <= {heading.lower() for _, _, heading in named}
    for place, page, heading in named:
        headings = re.findall(r"^#+ (.+)$", PAGES[page].read_text(encoding="utf-8").lower(), flags=re.MULTILINE)
        assert heading.lower() in headings, f"{place} names {page}, {heading}"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_names_no_machine(page: str) -> None:
    assert not re.search(r"(?<![\w.])/(work|home|root|tmp|mnt)/", PAGES[page].read_text(encoding="utf-8"))


def test_the_sections_of_the_method_are_numbered_from_0_without_gaps() -> None:
    whole = sorted(int(number) for number in sections_of("method.md") if "." not in number)
    assert whole == list(range(12))
