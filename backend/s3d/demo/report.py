"""The demo's report: what came out, whichever way it went."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

import numpy as np

from s3d.data.dataset import LabelledCase, load_case
from s3d.data.image_files import read_labels
from s3d.data.orientation import axis_order_to_lps, reorient_grid
from s3d.demo.cases import DemoCases
from s3d.demo.config import DemoConfig
from s3d.evaluation.pictures import overlay_figure
from s3d.evaluation.plots import curves_figure, paired_scores_figure
from s3d.evaluation.report import Best, Page
from s3d.evaluation.scores import CaseScore, Metric, case_means, score_table, summarize
from s3d.evaluation.statistics import Interval, bootstrap_interval, paired_difference
from s3d.progress import read_events
from s3d.training.record import versions

METRICS: dict[Metric, str] = {"dice": "Dice", "nsd": "NSD"}
"""What the demo tells, with its name."""


@dataclass
class Judged:
    """One network's held-out cases."""

    name: str
    folder: Path
    segmentations: Path
    rows: list[CaseScore] = field(default_factory=list)


def write_report(
    path: Path, config: DemoConfig, cases: DemoCases, judged: Mapping[str, Judged], seconds: Mapping[str, float]
) -> None:
    """Write the page atomically. judged: finetuned and scratch."""
    finetuned, scratch = judged["finetuned"], judged["scratch"]
    page = Page("S3D demo", f"{cases.dataset.name}: pre-train, fine-tune, segment, score", _versions_line())
    _say_what_this_is(page, config, cases)
    _tell_result(page, finetuned, scratch)
    _show_cases(page, cases, finetuned, scratch)
    _show_pretraining(page, config)
    _show_finetuning(page, finetuned, scratch)
    page.section("Time").table(("Step", "Seconds"), [(title, round(value)) for title, value in seconds.items()])
    page.write(path)


def result_line(finetuned: Judged, scratch: Judged, metric: Metric = "dice") -> str:
    """One sentence: both means, their paired difference and its interval."""
    first, second = _table(finetuned, metric), _table(scratch, metric)
    difference = paired_difference(first, second)
    return (
        f"{METRICS[metric]} {bootstrap_interval(first).mean:.3f} {finetuned.name}, "
        f"{bootstrap_interval(second).mean:.3f} {scratch.name}; difference {_signed(difference)}"
    )


def _say_what_this_is(page: Page, config: DemoConfig, cases: DemoCases) -> None:
    if cases.is_virtual:
        page.note(
            "The subjects are virtual. Each is the MNI152 T1 brain template and its grey- and white-matter maps, as "
            "the package nilearn ships them, under its own random smooth deformation, bias field, contrast and noise. "
            "Scores on them say that the program works; they say nothing about patients."
        )
    images = len(cases.unlabelled) * len(cases.dataset.channels)
    page.text(
        f"A small network was pre-trained for {config.pretraining_steps} steps on {images} images "
        f"without their labels, then fine-tuned for {config.finetuning_steps} steps on {len(cases.training)} labelled "
        f"cases. The same network was trained from scratch for the same steps on the same cases. Both segmented "
        f"{len(cases.test)} cases that neither training nor pre-training had seen."
    )


def _tell_result(page: Page, finetuned: Judged, scratch: Judged) -> None:
    page.section("Result")
    for metric in METRICS:
        page.text(f"{result_line(finetuned, scratch, metric)}.")
    page.text(
        "The interval (95 %, bootstrap over cases) does not contain the chance of training: another seed can move such "
        "short runs, too, and by how much was not measured here. On so little data and time pre-training may well not "
        "win."
    )
    for metric, name in METRICS.items():
        _table_of_cases(page, metric, name, finetuned, scratch)
    first, second = case_means(finetuned.rows, "dice"), case_means(scratch.rows, "dice")
    page.picture(
        paired_scores_figure(list(first), list(first.values()), list(second.values()), (finetuned.name, scratch.name)),
        "Dice of each held-out case by both networks",
        "Dice of each held-out case, mean of its labels.",
    )


def _table_of_cases(page: Page, metric: Metric, name: str, finetuned: Judged, scratch: Judged) -> None:
    first, second = case_means(finetuned.rows, metric), case_means(scratch.rows, metric)
    means = [summarize(judged.rows).foreground_mean[metric] for judged in (finetuned, scratch)]
    page.table(
        ("Case", f"{name}, {finetuned.name}", f"{name}, {scratch.name}", "Difference"),
        [(case, first[case], second[case], first[case] - second[case]) for case in first],
        f"{name} of each held-out case, mean of its labels" + (" (tolerance 1 mm)." if metric == "nsd" else "."),
        best=Best(columns=(1, 2)),
        last_row=("Mean of labels", *means, means[0] - means[1]),
    )


def _show_cases(page: Page, cases: DemoCases, finetuned: Judged, scratch: Judged) -> None:
    page.section("Segmentations")
    means = case_means(finetuned.rows, "dice")
    order = sorted(means, key=lambda case: means[case])
    by_name = {case.name: case for case in cases.dataset.cases}
    for title, case in {"The median case": order[len(order) // 2], "The worst case": order[0]}.items():
        page.picture(
            _overlay(cases, by_name[case], finetuned, scratch),
            f"Outlines of reference and both predictions on three slices of {case}",
            f"{title}, {case}: Dice {means[case]:.3f} {finetuned.name}, "
            f"{case_means(scratch.rows, 'dice')[case]:.3f} {scratch.name}.",
        )


def _overlay(cases: DemoCases, case: LabelledCase, finetuned: Judged, scratch: Judged) -> bytes:
    """All arrays turned to LPS, so that the letters of direction are true."""
    volume, truth = load_case(cases.dataset, case)
    order = axis_order_to_lps(volume.grid)
    drawn = {
        judged.name: np.asarray(order.apply(read_labels(judged.segmentations / f"{case.name}.nii.gz")[0]))
        for judged in (finetuned, scratch)
    }
    image, labels = np.asarray(order.apply(volume.voxels[0])), np.asarray(order.apply(truth))
    return overlay_figure(image, labels, drawn, reorient_grid(volume.grid, order).spacing_mm)


def _show_pretraining(page: Page, config: DemoConfig) -> None:
    folder = config.output / "pretrained"
    steps, losses = read_curve(folder / "events.jsonl", "loss")
    zero = next(
        event["loss_of_predicting_zero"]
        for event in read_events(folder / "events.jsonl")
        if "loss_of_predicting_zero" in event
    )
    page.section("Pre-training").text(
        f"Blocks of the image are hidden, 60 to 90 % of them, and the network has to rebuild them. Its squared error "
        f"on hidden voxels was {np.mean(losses[-5:]):.3f} at the end; answering 0 everywhere, the mean of the image, "
        f"would cost about {zero:.3f}."
    )
    page.picture(
        curves_figure({"masked squared error": (steps, losses), "answering 0": (steps, [zero] * len(steps))}),
        "Pre-training loss against the step",
        "Squared error on hidden voxels while pre-training.",
    )
    previews = sorted((folder / "previews").glob("*.png"))
    if previews:
        page.picture(
            previews[-1].read_bytes(),
            "A patch, what the network saw of it, and what it made of the hidden part",
            f"A patch after step {int(previews[-1].stem.split('-')[1])}.",
        )


def _show_finetuning(page: Page, finetuned: Judged, scratch: Judged) -> None:
    curves = {judged.name: read_curve(judged.folder / "events.jsonl", "loss") for judged in (finetuned, scratch)}
    page.section("Training").picture(
        curves_figure(curves, y_label="Cross-entropy + Dice loss"),
        "Loss of both trainings against the step",
        "Training loss of both networks.",
    )


def read_curve(events_path: Path, number: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric; after a restart the newer value of a step counts."""
    found = {
        event["step"]: event[number]
        for event in read_events(events_path)
        if event["kind"] == "metric" and event.get(number) is not None
    }
    return sorted(found), [found[step] for step in sorted(found)]


def _table(judged: Judged, metric: Metric) -> np.ndarray:
    return score_table(judged.rows, metric)[1]


def _signed(interval: Interval) -> str:
    if not isfinite(interval.low):
        return f"{interval.mean:+.3f}"
    return f"{interval.mean:+.3f}, 95 % interval {interval.low:+.3f} to {interval.high:+.3f}"


def _versions_line() -> str:
    return ", ".join(f"{name} {version}" for name, version in versions().items())
