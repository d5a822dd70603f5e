"""Pictures of volumes for reports, as PNG bytes: outlines on slices, and what pre-training rebuilt.

Volumes are (z, y, x) with spacing in mm in the same order. Where they are in LPS order (z to the head, y to the back, x
to the patient's left: data/orientation.py), slices come in the radiological convention: the patient's right is on the
left of the picture, the front of the head on top or left. Voxels keep their proportions, all slices have one scale.
Matplotlib's object interface only, so that threads do not share a figure.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke

OUTLINES = (("#56B4E9", "solid"), ("#E69F00", "dashed"), ("#F0E442", "dotted"))
"""Colour and dash of truth, first and second prediction: Okabe and Ito's palette, told apart without colour as well."""
_MARGIN_MM = 20.0
_DOTS_PER_INCH = 130
_WIDTH, _MOST_HEIGHT, _GAP, _LINE = 9.0, 7.0, 0.1, 0.32  # inches
_SMALL, _NORMAL = 8, 10  # points
_HALO: list[AbstractPathEffect] = [
    withStroke(linewidth=3, foreground="#000000B0")
]  # keeps lines and letters visible on any grey


@dataclass(frozen=True)
class _View:
    """One way to slice; an image row runs along the earlier remaining axis, a column along the later one."""

    name: str
    axis: int
    upward: bool
    """Whether rows are drawn from the bottom up: then the row axis runs to the head."""
    letters: tuple[str, str, str, str]
    """Left, right, top and bottom edge."""


_VIEWS = (
    _View("Axial", 0, False, ("R", "L", "A", "P")),
    _View("Coronal", 1, True, ("R", "L", "S", "I")),
    _View("Sagittal", 2, True, ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class _Plane:
    """One slice through several volumes: where it is and how long its sides are."""

    view: _View
    index: int
    spacing_mm: tuple[float, float]
    """Along rows and columns of the picture's array."""
    size_mm: tuple[float, float]
    """Height and width."""

    def of(self, volume_ZYX: np.ndarray) -> np.ndarray:
        """The slice of a volume, (row, column)."""
        plane: np.ndarray = np.take(volume_ZYX, self.index, axis=self.view.axis)
        return plane


def overlay_figure(
    image_ZYX: np.ndarray | None,
    truth_ZYX: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    spacing_mm: Sequence[float],
    *,
    title: str = "",
    truth_name: str = "Reference",
    axes_are_lps: bool = True,
) -> bytes:
    """Outlines of all labels of the truth and of one or two predictions on three orthogonal slices. PNG bytes.

    image: float (z, y, x), or None for an empty background; truth, predictions (by the name shown): integers (z, y, x),
    0 is background. Each slice is the one with most of the truth (a pair of structures has nothing at its centre), cut
    to 20 mm around all outlines. axes_are_lps False leaves out the letters of direction.
    """
    drawings = [truth_ZYX, *predictions.values()]
    box = _box_around(np.any([labels != 0 for labels in drawings], axis=0), spacing_mm)
    drawings = [labels[box] for labels in drawings]
    weights = next((labels != 0 for labels in drawings if labels.any()), np.ones(drawings[0].shape, dtype=bool))
    planes = _planes(weights, spacing_mm)
    figure, panels = _panels([planes], title, legend=True)
    for plane, panel in zip(planes, panels[0], strict=True):
        _draw_grey(panel, plane, None if image_ZYX is None else image_ZYX[box])
        for labels, (color, dash) in zip(drawings, OUTLINES, strict=False):
            _draw_outlines(panel, plane, labels, color, dash)
        panel.set_title(plane.view.name if axes_are_lps else f"Across {'zyx'[plane.view.axis]}", fontsize=_NORMAL)
        if axes_are_lps:
            _write_directions(panel, plane.view)
    _legend(figure, [truth_name, *predictions])
    return png(figure)


def reconstruction_figure(
    volume_ZYX: np.ndarray,
    visible_ZYX: np.ndarray,
    reconstruction_ZYX: np.ndarray,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> bytes:
    """What the network saw and what it rebuilt, on the three middle slices. PNG bytes.

    visible: bool (z, y, x), True where the network saw the voxel (masking.grow). Columns: original, masked,
    reconstructed, and the reconstruction only where voxels were hidden; one grey window for all, the original's.
    """
    columns = {
        "Original": volume_ZYX,
        "Masked": np.where(visible_ZYX, volume_ZYX, np.nan),
        "Reconstructed": reconstruction_ZYX,
        "Visible + reconstructed": np.where(visible_ZYX, volume_ZYX, reconstruction_ZYX),
    }
    planes = _planes(np.ones(volume_ZYX.shape, dtype=bool), spacing_mm)
    figure, panels = _panels([[plane] * len(columns) for plane in planes])
    window = _grey_window(volume_ZYX)
    for plane, row in zip(planes, panels, strict=True):
        for volume, panel in zip(columns.values(), row, strict=True):
            _draw_grey(panel, plane, volume, window)
    for name, panel in zip(columns, panels[0], strict=True):
        panel.set_title(name, fontsize=_NORMAL)
    return png(figure)


def png(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _box_around(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """The mask's bounding box with a margin, inside the volume; the whole volume if the mask is empty."""
    if not mask.any():
        return tuple(slice(0, size) for size in mask.shape)
    ranges = []
    for axis, spacing in enumerate(spacing_mm):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = round(_MARGIN_MM / spacing)
        ranges.append(slice(max(0, int(occupied[0]) - margin), int(occupied[-1]) + margin + 1))
    return tuple(ranges)


def _planes(mask: np.ndarray, spacing_mm: Sequence[float]) -> list[_Plane]:
    """For each view the slice that holds most of the mask; among equals the middle one."""
    planes = []
    for view in _VIEWS:
        rows, columns = (axis for axis in range(3) if axis != view.axis)
        areas = mask.sum(axis=(rows, columns))
        fullest = np.flatnonzero(areas == areas.max())
        spacing = (float(spacing_mm[rows]), float(spacing_mm[columns]))
        size = (mask.shape[rows] * spacing[0], mask.shape[columns] * spacing[1])
        planes.append(_Plane(view, int(fullest[len(fullest) // 2]), spacing, size))
    return planes


def _panels(grid: Sequence[Sequence[_Plane]], title: str = "", legend: bool = False) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a panel per plane, rows of planes below each other; a millimetre is as long in each."""
    columns = [max(plane.size_mm[1] for plane in column) for column in zip(*grid, strict=True)]
    rows = [max(plane.size_mm[0] for plane in row) for row in grid]
    inches = min((_WIDTH - _GAP * (len(columns) + 1)) / sum(columns), _MOST_HEIGHT / sum(rows))  # per millimetre
    top = _LINE * (2 if title else 1)
    height = top + sum(rows) * inches + _GAP * len(rows) + (_LINE if legend else 0)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DOTS_PER_INCH)
    if title:
        figure.text(_GAP / _WIDTH, 1 - 0.5 * _LINE / height, title, fontsize=_NORMAL, weight="bold", va="center")
    panels: list[list[Axes]] = []
    for row, row_mm in zip(grid, rows, strict=True):
        left = (_WIDTH - sum(columns) * inches - _GAP * (len(columns) - 1)) / 2
        panels.append([])
        for plane, column_mm in zip(row, columns, strict=True):
            high, wide = (size * inches for size in plane.size_mm)
            start = left + (column_mm * inches - wide) / 2
            box = (start / _WIDTH, 1 - (top + high) / height, wide / _WIDTH, high / height)
            panels[-1].append(figure.add_axes(box))
            left += column_mm * inches + _GAP
        top += row_mm * inches + _GAP
    return figure, panels


def _grey_window(image: np.ndarray) -> tuple[float, float]:
    """Grey limits: the 1st and 99th percentile, so that a few bright voxels do not darken the rest."""
    low, high = np.percentile(image, (1, 99))
    return float(low), float(max(high, low + 1e-6))


def _draw_grey(
    panel: Axes, plane: _Plane, volume: np.ndarray | None, window: tuple[float, float] | None = None
) -> None:
    """The slice in grey; a flat dark blue, no grey, where voxels are hidden (NaN) or there is no image."""
    height, width = plane.size_mm
    panel.set_facecolor("#26324A")
    panel.set(xlim=(0, width), ylim=(0, height) if plane.view.upward else (height, 0), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    if volume is None:
        return
    low, high = window or _grey_window(volume)
    extent = (0, width, *panel.get_ylim())
    panel.imshow(
        plane.of(volume),
        cmap="gray",
        vmin=low,
        vmax=high,
        interpolation="nearest",
        origin="lower" if plane.view.upward else "upper",
        extent=extent,
        aspect="auto",  # the panel has the right proportions
    )


def _draw_outlines(panel: Axes, plane: _Plane, labels: np.ndarray, color: str, dash: str) -> None:
    """The border of every label in the slice, half-way between voxel centres, closed at the picture's edge."""
    area = np.pad(plane.of(labels), 1)
    rows = (np.arange(area.shape[0]) - 0.5) * plane.spacing_mm[0]
    columns = (np.arange(area.shape[1]) - 0.5) * plane.spacing_mm[1]
    for value in np.unique(area[area != 0]):
        outline = panel.contour(
            columns, rows, area == value, levels=[0.5], colors=[color], linestyles=[dash], linewidths=1.8
        )
        outline.set_path_effects(_HALO)


def _write_directions(panel: Axes, view: _View) -> None:
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, horizontal, vertical) in zip(view.letters, places, strict=True):
        text = panel.text(x, y, letter, transform=panel.transAxes, ha=horizontal, va=vertical)
        text.set(color="white", fontsize=_SMALL, path_effects=_HALO)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    handles = [
        Line2D([], [], color=color, linestyle=dash, linewidth=2, label=name, path_effects=_HALO)
        for name, (color, dash) in zip(names, OUTLINES, strict=False)
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=_NORMAL,
        borderaxespad=0,
        handlelength=3,
    )
