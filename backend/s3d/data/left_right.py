"""Which label names form left/right pairs: there mirroring would teach the network the wrong side."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_SIDES = {"left": "left", "right": "right", "lh": "left", "rh": "right", "lt": "left", "rt": "right"}
_LETTERS = {"l": "left", "r": "right"}
_JOINED = re.compile(r"(left|right)([a-z]{3,})|([a-z]{3,})(left|right)")
_BY_CHANCE = re.compile(r".*(?:cleft|bright|wright)|leftovers?|(?:down|out|up)right")
"""Words that hold a side's name and mean none."""
_WORD, _LETTER, _PART, _ONE_LETTER_APART = range(4)


def left_right_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs (left name, right name), sorted; no name is in two. The order of the names does not matter.

    The side may be a word of its own anywhere, in any case: left/right, lh/rh, lt/rt, l/r ("Left-Putamen",
    "ctx-lh-cuneus", "hippocampus_L", "LeftHippocampus"); or be joined to three letters or more ("leftputamen").
    Both names must be the same but for the side, the separators and the case: "bright" and "cleft" pair with nothing.
    Last, two names are a pair that differ by an L and an R in one place ("LHIP" and "RHIP", "lput" and "rput").
    """
    readings = [(*reading, name) for name in sorted(set(names)) for reading in _readings(name)]
    candidates = sorted(
        (rank, left, right)
        for rank, rest, side, left in readings
        for other_rank, other_rest, other_side, right in readings
        if (side, other_side) == ("left", "right") and (rank, rest) == (other_rank, other_rest) and left != right
    )
    taken: set[str] = set()
    pairs = []
    for _, left, right in candidates:
        if not taken & {left, right}:
            taken |= {left, right}
            pairs.append((left, right))
    return sorted(pairs)


def mirror_axes_allowed(names: Sequence[str], orientation: Literal["LPS", "as_stored"] = "LPS") -> tuple[int, ...]:
    """Axes (0 z, 1 y, 2 x) along which mirroring keeps every name right (architecture.md, Left and right).

    All three, unless names form pairs or one may name its side (a lone "Hippocampus_L": the mirrored right one must not
    be called left). In doubt ("L1") it does: mirroring less costs little, a wrong side does not show in the losses.
    Then without the left-right axis: 2 in LPS; as stored it is unknown, so no axis is left.
    """
    sided = any(rank != _ONE_LETTER_APART for name in names for rank, _, _ in _readings(name))
    if not sided and not left_right_pairs(names):
        return (0, 1, 2)
    return (0, 1) if orientation == "LPS" else ()


def _readings(name: str) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Every way to find a side in a name: how sure it is (0 surest), the name without the side, the side."""
    words = [word.lower() for word in _WORDS.findall(name)]
    for place, word in enumerate(words):
        before, after = words[:place], words[place + 1 :]
        if word in _SIDES:
            yield _WORD, (*before, "*", *after), _SIDES[word]
        elif word in _LETTERS:
            yield _LETTER, (*before, "*", *after), _LETTERS[word]
        elif (joined := _JOINED.fullmatch(word)) and not _BY_CHANCE.fullmatch(word):
            first, rest, stem, last = joined.groups()
            yield _PART, (*before, f"*{rest}" if first else f"{stem}*", *after), first or last
    lowered = name.lower()
    for place, letter in enumerate(lowered):
        if letter in _LETTERS:
            yield _ONE_LETTER_APART, (lowered[:place], lowered[place + 1 :]), _LETTERS[letter]
