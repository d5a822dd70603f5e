"""The end of a run in numbers: what was kept, what was dropped and why, for people and for machines."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table

from s3d.config import to_dict
from s3d.preparation.catalog import CatalogEntry
from s3d.preparation.config import CatalogConfig

_WIDTH = 80


def catalog_summary(entries: Sequence[CatalogEntry], kind: str, config: CatalogConfig) -> dict[str, Any]:
    """Counts by modality and rule, as JSON values, with the options that led to them."""
    kept = [entry for entry in entries if entry.kept]
    return {
        "kind": kind,
        "images": len(entries),
        "kept": len(kept),
        "subjects_kept": len({entry.subject for entry in kept}),
        "kept_by_modality": _counts(entry.modality for entry in kept),
        "dropped_by_rule": _counts(_rule(entry) for entry in entries if not entry.kept),
        "config": to_dict(config),
    }


def catalog_table(summary: Mapping[str, Any]) -> str:
    """The counts as a text table, the kept images by modality, the dropped ones by rule."""
    table = Table("images", "number", title="Catalogue")
    table.columns[1].justify = "right"
    for modality, number in summary["kept_by_modality"].items():
        table.add_row(f"kept: {modality}", str(number))
    for rule, number in summary["dropped_by_rule"].items():
        table.add_row(f"dropped: {rule}", str(number), style="yellow")
    table.add_section()
    table.add_row("kept", str(summary["kept"]))
    table.add_row("all", str(summary["images"]))
    return _as_text(table)


def _rule(entry: CatalogEntry) -> str:
    """The rule that dropped an entry; where it was the modality, which one."""
    return f"modality {entry.modality}" if entry.rule == "modality" else str(entry.rule)


def _as_text(table: Table) -> str:
    console = Console(file=StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()


def _counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first, equal ones by name."""
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))
