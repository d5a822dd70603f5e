"""The verb `demo`: the main job on real data, a step after the other, ending in a report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from s3d.bundle import SUFFIX, load_bundle
from s3d.data.dataset import load_case
from s3d.data.image_files import write_labels
from s3d.demo.cases import PLAN, DemoCases, get_cases, store_unlabelled
from s3d.demo.config import DemoConfig
from s3d.demo.report import METRICS, Judged, result_line, write_report
from s3d.demo.side_by_side import finetune_side_by_side
from s3d.evaluation.scores import score_case
from s3d.finetuning.config import FinetuneConfig
from s3d.inference.predictor import Predictor
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.run import pretrain
from s3d.progress import Progress
from s3d.training.device import choose_device

NETWORKS = {"finetuned": "pre-trained, fine-tuned", "scratch": "from scratch"}


@dataclass
class Timing:
    """Seconds of each step, told as they end."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step and take its time."""
        self.progress.note(f"({len(self.seconds) + 1}) {title}")
        started = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - started
        self.progress.note(f"    {self.seconds[title]:.0f} s")


def demo(config: DemoConfig, progress: Progress) -> Path:
    """Run all steps; what is already finished in config.output is not done again. Returns the report's path."""
    timing = Timing(progress)
    with timing.step("Get the cases"):
        cases = get_cases(config, progress)
        progress.note(
            f"    {cases.dataset.name}: {len(cases.unlabelled)} unlabelled, {len(cases.training)} labelled, "
            f"{len(cases.test)} held out"
        )
    with timing.step(f"Pre-train on {len(cases.unlabelled)} unlabelled cases"):
        pretrained = _pretrain(config, cases, progress)
    with timing.step(f"Fine-tune and train from scratch on {len(cases.training)} cases, side by side"):
        finetune_side_by_side(_finetunings(config, cases, pretrained), "Train both", progress)
    with timing.step(f"Segment and score {len(cases.test)} held-out cases with both"):
        judged = {name: _judge(config, name, cases, progress) for name in NETWORKS}
        for metric in METRICS:
            progress.note(f"    {result_line(judged['finetuned'], judged['scratch'], metric)}")
    report = config.output / "report.html"
    with timing.step("Write the report"):
        write_report(report, config, cases, judged, timing.seconds)
    return report.absolute()


def _pretrain(config: DemoConfig, cases: DemoCases, progress: Progress) -> Path:
    store = config.output / "unlabelled"
    store_unlabelled(cases, store, progress)
    options = PretrainConfig(
        store=store,
        output=config.output / "pretrained",
        name="demo-pretrained",
        architecture=config.network,
        patch_size=config.patch_size,
        batch_size=2,
        steps=config.pretraining_steps,
        preview_every=max(1, config.pretraining_steps // 2),
        log_every=_log_every(config.pretraining_steps),
        seed=config.seed,
    )
    own = Progress(options.output / "events.jsonl", progress.console)
    try:
        return pretrain(options, own)
    finally:
        own.close()


def _finetunings(config: DemoConfig, cases: DemoCases, pretrained: Path) -> list[FinetuneConfig]:
    """Two runs that differ in nothing but where they start."""
    return [
        FinetuneConfig(
            dataset=cases.dataset.folder,
            output=config.output / name,
            name=f"demo-{name}",
            parent=pretrained if name == "finetuned" else None,
            architecture=config.network,
            patch_size=config.patch_size,
            spacing_mm=PLAN.spacing_mm,
            cases=cases.training,
            steps=config.finetuning_steps,
            log_every=_log_every(config.finetuning_steps),
            seed=config.seed,
            cpu_threads=max(1, torch.get_num_threads() // 2),
            reader_threads=1,
        )
        for name in NETWORKS
    ]


def _log_every(steps: int) -> int:
    """Often enough for a curve in the report."""
    return max(1, min(10, steps // 10))


def _judge(config: DemoConfig, name: str, cases: DemoCases, progress: Progress) -> Judged:
    """Segment the held-out cases with one network, write and score the results."""
    bundle = load_bundle(config.output / name / f"demo-{name}{SUFFIX}")
    predictor = Predictor(bundle, choose_device())
    judged = Judged(
        name=NETWORKS[name], folder=config.output / name, segmentations=config.output / "segmentations" / name
    )
    by_name = {case.name: case for case in cases.dataset.cases}
    with progress.stage(f"Segment, {NETWORKS[name]}", len(cases.test)) as bar:
        for case in cases.test:
            volume, truth = load_case(cases.dataset, by_name[case])
            labels = predictor.segment(volume).labels
            write_labels(judged.segmentations / f"{case}.nii.gz", labels, volume.grid)
            judged.rows += score_case(
                truth,
                labels,
                volume.grid.spacing_mm,
                cases.dataset.labels,
                ignore_value=cases.dataset.ignore_value,
                case=case,
            )
            bar.advance()
    return judged
