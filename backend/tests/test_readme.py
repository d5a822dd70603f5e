"""The README's commands are understood by the programs they are for, and its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from s3d.cli import VERBS, parse

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.startswith("s3d ")]


def verb_of(words: list[str]) -> str:
    return next(verb for verb in sorted(VERBS, key=len, reverse=True) if words[: len(verb.split())] == verb.split())


def test_the_two_lines_of_a_newcomer_come_first() -> None:
    assert [line.split("#")[0].strip() for line in BLOCKS[0].splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_is_understood(command: str) -> None:
    words = shlex.split(command)[1:]
    verb = verb_of(words)
    parse(verb, words[len(verb.split()) :])


def test_the_readme_shows_every_verb() -> None:
    shown = {verb_of(shlex.split(command)[1:]) for command in COMMANDS} | {"demo"}
    assert {verb.split()[0] for verb in shown} == {verb.split()[0] for verb in VERBS}


def test_links_to_files_lead_somewhere() -> None:
    for page in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_named_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", README)) | {"demo", "test"}
    assert named <= targets


def test_it_says_that_it_is_no_medical_device() -> None:
    assert "For research use only, not a medical device." in README
