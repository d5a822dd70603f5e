"""Real MRI (docs/data.md): a few labelled hippocampi are enough to beat an atlas of them, and hidden voxels are learnt.

Figures are printed (pytest -s, or -rP), whichever way they come out.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from s3d.bundle import load_bundle
from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.dataset import LabelledCase, LabelledDataset, load_case, read_dataset
from s3d.data.patches import PatchSampler
from s3d.data.preprocessing import PreprocessingPlan, preprocess_image
from s3d.evaluation.metrics import dice
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.run import finetune
from s3d.inference.predictor import Predictor
from s3d.models.spark import SparkAutoencoder
from s3d.pretraining.config import PretrainConfig
from s3d.pretraining.masked_autoencoder import MaskedAutoencoding, error_of_predicting_zero
from s3d.pretraining.run import pretrain
from s3d.progress import Progress
from s3d.training.device import choose_device

Shape = tuple[int, int, int]
PATCH: Shape = (32, 48, 32)


@pytest.fixture(scope="module")
def hippocampus(test_data: Path) -> LabelledDataset:
    """MSD task 4: crops of T1 MRI around one hippocampus, labels Anterior and Posterior."""
    return read_dataset(test_data / "msd_task04_hippocampus")


@pytest.fixture(scope="module")
def groups(hippocampus: LabelledDataset) -> tuple[tuple[LabelledCase, ...], tuple[LabelledCase, ...]]:
    """8 cases to train on and 20 others."""
    order = np.random.default_rng(0).permutation(len(hippocampus.cases))
    drawn = [hippocampus.cases[index] for index in order[:28]]
    return tuple(drawn[:8]), tuple(drawn[8:])


def centred(labels_ZYX: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Padded with background or cropped to a shape, the middle staying in the middle."""
    excess = [max(0, size - wanted) for size, wanted in zip(labels_ZYX.shape, shape, strict=True)]
    cropped = labels_ZYX[
        *(slice(over // 2, over // 2 + size - over) for over, size in zip(excess, labels_ZYX.shape, strict=True))
    ]
    missing = [wanted - size for size, wanted in zip(cropped.shape, shape, strict=True)]
    return np.pad(cropped, [(space // 2, space - space // 2) for space in missing])


def stretched(labels_ZYX: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Brought to a shape as if all crops showed the same box, nearest voxels."""
    factors = [wanted / size for size, wanted in zip(labels_ZYX.shape, shape, strict=True)]
    return ndimage.zoom(labels_ZYX, factors, order=0, mode="nearest", grid_mode=True)


def vote(label_maps: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """At each voxel the label most maps have there; a tie goes to the smaller value, background first."""
    return np.argmax([np.sum([labels == value for labels in label_maps], axis=0) for value in range(classes)], axis=0)


def mean_dice(pairs: Sequence[tuple[np.ndarray, np.ndarray]], values: Sequence[int]) -> float:
    """Mean over labels and cases of (truth, found)."""
    return float(np.nanmean([[dice(truth == value, found == value) for value in values] for truth, found in pairs]))


def atlas_dice(training: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: int) -> float:
    """Dice of the majority vote of the training labels laid over each other case, by the better of two alignments."""
    shape = np.max([labels.shape for labels in training], axis=0)
    results = []
    for align in (centred, stretched):
        atlas = vote([align(labels, shape) for labels in training], classes)
        results.append(mean_dice([(truth, align(atlas, truth.shape)) for truth in truths], range(1, classes)))
    return max(results)


def test_a_vote_of_one_map_is_that_map() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (5, 6, 7))
    for align in (centred, stretched):
        np.testing.assert_array_equal(vote([align(labels, labels.shape)] * 3, 3), labels)
    assert atlas_dice([labels, labels], [labels], 3) == 1
    np.testing.assert_array_equal(centred(centred(labels, (8, 9, 9)), labels.shape), labels)


@pytest.mark.slow
def test_eight_labelled_cases_give_a_dice_of_080_on_twenty_others_and_beat_their_atlas(
    hippocampus: LabelledDataset, groups: tuple[tuple[LabelledCase, ...], tuple[LabelledCase, ...]], tmp_path: Path
) -> None:
    """From scratch, the recipe of evidence.md; 300 steps take under five minutes even on one core."""
    training, others = groups
    config = FinetuneConfig(
        dataset=hippocampus.folder,
        output=tmp_path,
        cases=tuple(case.name for case in training),
        preset="small",
        patch_size=PATCH,
        steps=300,
        device="cpu",
    )
    started = time.monotonic()
    bundle = load_bundle(finetune(config, Progress()))
    seconds = time.monotonic() - started
    predictor = Predictor(bundle, choose_device("cpu"))
    loaded = [load_case(hippocampus, case) for case in others]
    found = [(truth, predictor.segment(volume).labels) for volume, truth in loaded]
    values = tuple(hippocampus.labels.values())
    network = mean_dice(found, values)
    drawn = [load_case(hippocampus, case)[1] for case in training]
    atlas = atlas_dice(drawn, [truth for truth, _ in found], len(values) + 1)
    print(  # noqa: T201 - the figures are what a reader wants
        f"\nhippocampus, 8 training cases, {config.steps} steps in {seconds:.0f} s with {torch.get_num_threads()} "
        f"threads: mean Dice on 20 others {network:.4f}, majority-vote atlas {atlas:.4f}"
    )
    assert network >= 0.80
    assert network > atlas


@pytest.mark.slow
def test_a_short_pretraining_reconstructs_hidden_voxels_better_than_their_mean(
    hippocampus: LabelledDataset, tmp_path: Path
) -> None:
    """Judged on images the pre-training never saw."""
    plan = PreprocessingPlan(orientation="LPS", spacing_mm=None, normalization="zscore")
    store = CaseStore.create(tmp_path / "store", StoreDescription(plan=plan, channels=("MR",)))
    unseen = CaseStore.create(tmp_path / "unseen", StoreDescription(plan=plan, channels=("MR",)))
    for number, case in enumerate(hippocampus.cases[:40]):
        volume, _ = load_case(hippocampus, case)
        (store if number < 32 else unseen).write(case.name, preprocess_image(volume, plan)[0])
    config = PretrainConfig(
        store=store.folder,
        output=tmp_path / "run",
        preset="tiny",
        patch_size=PATCH,
        block_size=8,
        steps=100,
        batch_size=2,
        device="cpu",
        precision="fp32",
    )
    started = time.monotonic()
    bundle = load_bundle(pretrain(config, Progress()))
    seconds = time.monotonic() - started
    model = SparkAutoencoder(config.network, config.spark)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in bundle.weights.items()})
    task = MaskedAutoencoding(patch_size=PATCH, block=config.block, mask_ratio=config.mask_ratio, seed=1)
    batches = [PatchSampler(unseen, PATCH, 1).batch(range(8))]
    zero = error_of_predicting_zero(task, batches)
    with torch.no_grad():
        reached = float(task.loss(model, batches[0], 0))
    print(  # noqa: T201 - as above
        f"\nhippocampus, {config.steps} pre-training steps in {seconds:.0f} s: masked squared error on unseen images "
        f"{reached:.3f}, predicting 0 {zero:.3f}"
    )
    assert reached < 0.9 * zero
