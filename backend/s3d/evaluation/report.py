"""One self-contained HTML page: text, tables and pictures inside the file, nothing fetched, everything escaped."""

import base64
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Literal

from s3d.atomic_files import write_text
from s3d.bundle import NOT_A_DEVICE
from s3d.evaluation.report_style import STYLE

Cell = str | int | float | None
"""Numbers, and texts that begin like one ("+0.6 [0.3, 0.9]"), are right-aligned; NaN and None appear as a dash."""

# The policy makes the browser itself refuse anything that is not in the file.
_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$subtitle
</header>
<main>
$content
</main>
<footer>
<p>$footer</p>
</footer>
</body>
</html>
""")


@dataclass(frozen=True)
class Best:
    """Which figures of a table compete: within each row across `columns`, or within each of `columns` down the rows."""

    columns: tuple[int, ...]
    """Column numbers from 0."""
    along: Literal["row", "column"] = "row"
    higher: bool = True
    """Whether the larger figure is the better one."""


class Page:
    """Collects sections in order; write() makes the file. Methods return the page, so calls can be chained."""

    def __init__(self, title: str, subtitle: str = "", footer: str = "") -> None:
        """footer: added to the sentence that this is no medical device, for example version and date."""
        self._title = title
        self._subtitle = subtitle
        self._footer = footer
        self._parts: list[str] = []

    def section(self, title: str) -> "Page":
        """Begin a section: everything after belongs to it, up to the next one."""
        return self._add(f"<h2>{escape(title)}</h2>")

    def text(self, text: str) -> "Page":
        """A paragraph; an empty line in the text begins another."""
        for paragraph in text.split("\n\n"):
            self._add(f"<p>{escape(paragraph)}</p>")
        return self

    def note(self, text: str) -> "Page":
        """A paragraph that stands out: what a reader must not miss."""
        return self._add(f'<p class="note">{escape(text)}</p>')

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[Cell]],
        caption: str = "",
        *,
        digits: int = 3,
        best: Best | None = None,
        last_row: Sequence[Cell] | None = None,
    ) -> "Page":
        """A table; the first column names the rows. Its numbers show `digits` decimals (whole numbers none).

        best: figures to compare; the best one is bold, unless all look equal. last_row: set apart, for means.
        """
        body = [list(row) for row in rows]
        shown = [[_show(cell, digits) for cell in row] for row in body]
        bold = _best_places(body, shown, best) if best else set()
        if bold:
            caption = f"{caption} Bold: the best of the figures compared.".strip()
        numeric = [column > 0 and any(map(_is_figure, (row[column] for row in shown))) for column in range(len(header))]
        lines = [_row(shown[index], numeric, "td", {c for r, c in bold if r == index}) for index in range(len(body))]
        foot = _row([_show(cell, digits) for cell in last_row], numeric, "td") if last_row is not None else ""
        return self._add(
            '<div class="wide"><table>'
            + (f"<caption>{escape(caption)}</caption>" if caption else "")
            + f"<thead>{_row(list(header), numeric, 'th')}</thead>"
            + f"<tbody>{''.join(lines)}</tbody>"
            + (f"<tfoot>{foot}</tfoot>" if foot else "")
            + "</table></div>"
        )

    def picture(self, png: bytes, alt: str, caption: str = "") -> "Page":
        """A PNG embedded in the page. alt: what it shows, for those who cannot see it."""
        data = base64.b64encode(png).decode("ascii")
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return self._add(f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alt)}">{below}</figure>')

    def html(self) -> str:
        """The whole page."""
        subtitle = f'<p class="subtitle">{escape(self._subtitle)}</p>' if self._subtitle else ""
        return _PAGE.substitute(
            title=escape(self._title),
            style=STYLE,
            subtitle=subtitle,
            content="\n".join(self._parts),
            footer=escape(f"{NOT_A_DEVICE} {self._footer}".strip()),
        )

    def write(self, path: Path) -> Path:
        """Write the page atomically and return path. Raises StorageError."""
        write_text(path, self.html())
        return path

    def _add(self, html: str) -> "Page":
        self._parts.append(html)
        return self


def _show(cell: Cell, digits: int) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "\N{EN DASH}"
    if isinstance(cell, float):
        sign = "-" if cell < 0 else ""
        return f"{sign}∞" if math.isinf(cell) else f"{cell:.{digits}f}"
    return str(cell)


def _is_figure(text: str) -> bool:
    return re.match(r"[+-]?[\d.∞]", text) is not None


def _row(cells: Sequence[str], numeric: Sequence[bool], tag: str, bold: Iterable[int] = ()) -> str:
    """One table row; the first cell of a body row is its heading, as screen readers announce it."""
    parts = []
    for column, cell in enumerate(cells):
        name = "th" if column == 0 else tag
        scope = f' scope="{"col" if tag == "th" else "row"}"' if name == "th" else ""
        kind = ' class="number"' if numeric[column] else ""
        text = f"<strong>{escape(cell)}</strong>" if column in bold else escape(cell)
        parts.append(f"<{name}{scope}{kind}>{text}</{name}>")
    return f"<tr>{''.join(parts)}</tr>"


def _best_places(rows: Sequence[Sequence[Cell]], shown: Sequence[Sequence[str]], best: Best) -> set[tuple[int, int]]:
    """(row, column) of every figure that looks like the best of its group, for groups that do not all look equal."""
    if best.along == "row":
        groups = [[(row, column) for column in best.columns] for row in range(len(rows))]
    else:
        groups = [[(row, column) for row in range(len(rows))] for column in best.columns]
    places: set[tuple[int, int]] = set()
    for group in groups:
        values = {(row, column): _number(rows[row][column]) for row, column in group}
        finite = {place: value for place, value in values.items() if not math.isnan(value)}
        if len({shown[row][column] for row, column in finite}) < 2:
            continue
        row, column = (max if best.higher else min)(finite, key=lambda place: finite[place])
        places |= {place for place in finite if shown[place[0]][place[1]] == shown[row][column]}
    return places


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, (int, float)) else float("nan")
