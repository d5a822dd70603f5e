"""The report tells what came out, whichever way it went, and what it does not mean."""

import base64
import dataclasses
import html
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from s3d.data.image_files import read_labels, write_labels
from s3d.demo.cases import DemoCases, get_cases
from s3d.demo.config import DemoConfig
from s3d.demo.report import Judged, read_curve, result_line, write_report
from s3d.evaluation.pictures import reconstruction_figure
from s3d.evaluation.scores import CaseScore
from s3d.progress import Progress

PNG = b"\x89PNG\r\n\x1a\n"


def rows(dice: Mapping[str, float]) -> list[CaseScore]:
    """Made-up scores; NSD is a tenth above Dice."""
    return [
        CaseScore(case, "box", value, value + 0.1, hd95_mm=2.0, reference_ml=1.0, prediction_ml=1.0)
        for case, value in dice.items()
    ]


def write_curve(folder: Path, values: list[float], **once: float) -> None:
    events = Progress(folder / "events.jsonl")
    if once:
        events.metric(0, **once)
    for step, value in enumerate(values, start=1):
        events.metric(10 * step, loss=value)
    events.close()


@pytest.fixture
def finished(make_dataset: Callable[..., Path], tmp_path: Path) -> tuple[DemoConfig, DemoCases]:
    """A demo's folder as it is before the report: curves, a preview, segmentations (the labels, one slice off)."""
    config = DemoConfig(
        data=make_dataset(8), output=tmp_path / "demo", training_cases=2, test_cases=4, unlabelled_cases=4
    )
    cases = get_cases(config, Progress())
    write_curve(config.output / "pretrained", [1.5, 0.9, 0.8, 0.7], loss_of_predicting_zero=1.25)
    cube = np.random.default_rng(0).normal(size=(8, 8, 8))
    previews = config.output / "pretrained" / "previews"
    previews.mkdir()
    for step in (2, 4):
        (previews / f"step-{step:07d}.png").write_bytes(reconstruction_figure(cube, cube > step, cube / 2))
    by_name = {case.name: case for case in cases.dataset.cases}
    for name in ("finetuned", "scratch"):
        write_curve(config.output / name, [2.0, 1.5, 1.0])
        for case in cases.test:
            labels, grid = read_labels(by_name[case].labels)
            path = config.output / "segmentations" / name / f"{case}.nii.gz"
            write_labels(path, np.roll(labels, 1, axis=0), grid)
    return config, cases


def judged(config: DemoConfig, first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, Judged]:
    return {
        name: Judged(title, config.output / name, config.output / "segmentations" / name, rows(scores))
        for name, title, scores in (
            ("finetuned", "pre-trained, fine-tuned", first),
            ("scratch", "from scratch", second),
        )
    }


def text_of(page: str) -> str:
    """What a reader sees, without pictures and tags."""
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def report_of(config: DemoConfig, cases: DemoCases, both: dict[str, Judged]) -> str:
    path = config.output / "report.html"
    write_report(path, config, cases, both, {"Get the cases": 0.4, "Train": 61.6})
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ((0.8, 0.9, 0.7, 0.8), (0.7, 0.8, 0.6, 0.7), "+0.100, 95 % interval +0.100 to +0.100"),
        ((0.7, 0.8, 0.6, 0.7), (0.8, 0.9, 0.7, 0.8), "-0.100, 95 % interval -0.100 to -0.100"),
        ((0.8, 0.9, 0.7, 0.8), (0.8, 0.9, 0.7, 0.8), "+0.000, 95 % interval +0.000 to +0.000"),
        ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0), "+0.000, 95 % interval +0.000 to +0.000"),
    ],
)
def test_the_result_is_told_whichever_way_it_went(
    first: tuple[float, ...],
    second: tuple[float, ...],
    difference: str,
    finished: tuple[DemoConfig, DemoCases],
) -> None:
    config, cases = finished
    both = judged(config, dict(zip(cases.test, first, strict=True)), dict(zip(cases.test, second, strict=True)))
    means = f"Dice {np.mean(first):.3f} pre-trained, fine-tuned, {np.mean(second):.3f} from scratch"
    line = f"{means}; difference {difference}"
    assert result_line(both["finetuned"], both["scratch"]) == line
    shown = text_of(report_of(config, cases, both))
    assert f"{line}." in shown
    assert shown.count(difference) == 2, "once for Dice, once for NSD"
    for case, one, other in zip(cases.test, first, second, strict=True):
        assert f"{case} {one:.3f} {other:.3f} {one - other:.3f}" in shown
    assert "win" in shown
    assert "outperform" not in shown


def test_the_honest_sentences_are_there(finished: tuple[DemoConfig, DemoCases]) -> None:
    config, cases = finished
    both = judged(config, dict.fromkeys(cases.test, 0.9), dict.fromkeys(cases.test, 0.5))
    shown = text_of(report_of(config, cases, both))
    assert "On so little data and time pre-training may well not win." in shown
    assert "does not contain the chance of training" in shown
    assert "Both segmented 4 cases that neither training nor pre-training had seen." in shown
    assert f"for {config.pretraining_steps} steps on 4 images without their labels" in shown
    assert "answering 0 everywhere, the mean of the image, would cost about 1.250." in shown
    assert "For research use only, not a medical device." in shown
    assert "virtual" not in shown
    made_up = text_of(report_of(config, dataclasses.replace(cases, is_virtual=True), both))
    assert "The subjects are virtual." in made_up
    assert "they say nothing about patients." in made_up


def test_the_page_holds_everything_it_shows(finished: tuple[DemoConfig, DemoCases]) -> None:
    config, cases = finished
    page = report_of(config, cases, judged(config, dict.fromkeys(cases.test, 0.9), dict.fromkeys(cases.test, 0.5)))
    sources = re.findall(r'<img src="([^"]*)" alt="([^"]+)"', page)
    assert [alt.split()[0] for _, alt in sources] == ["Dice", "Outlines", "Outlines", "Pre-training", "A", "Loss"]
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source, _ in sources]
    assert all(picture.startswith(PNG) for picture in pictures)
    newest = config.output / "pretrained" / "previews" / "step-0000004.png"
    assert newest.read_bytes() in pictures
    assert "A patch after step 4." in text_of(page)
    assert not re.findall(r"https?://", page)


def test_the_median_and_the_worst_case_are_drawn(finished: tuple[DemoConfig, DemoCases]) -> None:
    config, cases = finished
    scores = dict(zip(cases.test, (0.5, 0.9, 0.1, 0.7), strict=True))
    shown = text_of(report_of(config, cases, judged(config, scores, scores)))
    assert f"The worst case, {cases.test[2]}: Dice 0.100" in shown
    assert f"The median case, {cases.test[3]}: Dice 0.700" in shown


def test_a_label_that_is_nowhere_leaves_a_gap_and_breaks_nothing(finished: tuple[DemoConfig, DemoCases]) -> None:
    config, cases = finished
    scores = dict(zip(cases.test, (0.5, float("nan"), 0.1, 0.7), strict=True))
    shown = text_of(report_of(config, cases, judged(config, scores, scores)))
    assert "Dice 0.433 pre-trained, fine-tuned, 0.433 from scratch; difference +0.000" in shown
    assert f"{cases.test[1]} – – –" in shown  # noqa: RUF001 - the dash of the table


def test_a_step_done_twice_counts_as_it_was_done_last(tmp_path: Path) -> None:
    write_curve(tmp_path, [3.0, 2.0, 1.0])
    events = Progress(tmp_path / "events.jsonl")
    events.metric(20, loss=2.5)
    events.metric(40, loss=float("nan"))
    events.metric(50, score=1.0)
    events.close()
    assert read_curve(tmp_path / "events.jsonl", "loss") == ([10, 20, 30], [3.0, 2.5, 1.0])
