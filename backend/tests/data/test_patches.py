"""Sampling patches from a real store: pure in (seed, number), whatever the batch, the process or the device's mood."""

import dataclasses

import numpy as np
import pytest
import torch

from s3d.data.augmentation_config import FINETUNING, NONE, PRETRAINING, QUICK
from s3d.data.case_store import CaseStore
from s3d.data.patch_places import PatchPlaces, is_foreground_sample
from s3d.data.patches import PatchBatch, PatchSampler
from s3d.errors import ConfigError, DatasetError

PATCH = (8, 10, 12)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    """Three cases of two channels: "a" and "b" with labels 1, 5 and the ignore value -1; "c" without foreground."""
    store = CaseStore.create(tmp_path_factory.mktemp("labelled") / "store")
    random = np.random.default_rng(0)
    for name, shape in {"a": (20, 22, 24), "b": (9, 30, 16), "c": (16, 16, 16)}.items():
        labels = np.zeros(shape, np.int16)
        if name != "c":
            labels[2:4, 2:5, 3:6], labels[-4:-1, -5:-2, -5:-2], labels[0] = 1, 5, -1
        store.write(name, random.standard_normal((2, *shape), dtype=np.float32), labels)
    return store


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> CaseStore:
    """One case with an anonymisation and an anatomy mask, one without."""
    store = CaseStore.create(tmp_path_factory.mktemp("unlabelled") / "store")
    random = np.random.default_rng(1)
    excluded, anatomy = np.zeros((14, 15, 16), bool), np.ones((14, 15, 16), bool)
    excluded[:, :5], anatomy[2:12, 7:11, 2:14] = True, False
    image = random.standard_normal((1, 14, 15, 16), dtype=np.float32)
    store.write("masked", image, excluded=excluded, anatomy=anatomy)
    store.write("plain", random.standard_normal((1, 6, 20, 20), dtype=np.float32))
    return store


def assert_same(one: PatchBatch, other: PatchBatch) -> None:
    assert (one.numbers, one.case_names) == (other.numbers, other.case_names)
    assert torch.equal(one.image, other.image)
    for name in ("labels", "excluded"):
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None and b is None) or torch.equal(a, b)


def joined(batches: list[PatchBatch]) -> PatchBatch:
    def together(name: str) -> torch.Tensor | None:
        parts = [getattr(batch, name) for batch in batches]
        return None if parts[0] is None else torch.cat(parts)

    return PatchBatch(
        torch.cat([batch.image for batch in batches]),
        together("labels"),
        together("excluded"),
        tuple(number for batch in batches for number in batch.numbers),
        tuple(name for batch in batches for name in batch.case_names),
    )


@pytest.mark.parametrize(
    "config", [FINETUNING, QUICK, PRETRAINING, NONE], ids=["nnunet", "quick", "pretraining", "none"]
)
def test_a_batch_equals_its_samples_one_by_one_and_as_two_processes(labelled, config):
    sampler = PatchSampler(labelled, PATCH, 7, foreground_share=0.33, augmentation=config)
    numbers = range(24)
    whole = sampler.batch(numbers)
    assert_same(whole, joined([sampler.batch([number]) for number in numbers]))
    assert_same(
        whole,
        joined(
            [
                sampler.batch(numbers[:12]),
                PatchSampler(labelled, PATCH, 7, foreground_share=0.33, augmentation=config).batch(numbers[12:]),
            ]
        ),
    )


def test_a_batch_equals_its_samples_one_by_one_with_several_threads_and_masks(unlabelled):
    sampler = PatchSampler(
        unlabelled, (16, 32, 32), 7, augmentation=dataclasses.replace(FINETUNING, gamma_probability=1.0)
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert_same(sampler.batch(range(6)), joined([sampler.batch([number]) for number in range(6)]))
    finally:
        torch.set_num_threads(threads)


def test_seed_and_number_change_the_sample_and_the_order_of_names_does_not(labelled):
    sampler = PatchSampler(labelled, PATCH, 7, augmentation=FINETUNING)
    one = sampler.batch([3])
    assert not torch.equal(one.image, sampler.batch([4]).image)
    assert not torch.equal(one.image, PatchSampler(labelled, PATCH, 8, augmentation=FINETUNING).batch([3]).image)
    assert_same(one, PatchSampler(labelled, PATCH, 7, names=["c", "b", "a"], augmentation=FINETUNING).batch([3]))


def test_autocast_of_the_training_step_does_not_reach_the_augmentation(labelled):
    config = dataclasses.replace(PRETRAINING, rotation_probability=1.0)
    sampler = PatchSampler(labelled, PATCH, 7, augmentation=config)
    plain = sampler.batch(range(4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(sampler.batch(range(4)), plain)
    assert plain.image.dtype == torch.float32


def test_shapes_and_types(labelled, unlabelled):
    batch = PatchSampler(labelled, PATCH, 0, foreground_labels=(1, 5)).batch([5, 2])
    assert (batch.image.shape, batch.image.dtype) == ((2, 2, *PATCH), torch.float32)
    assert (batch.labels.shape, batch.labels.dtype) == ((2, *PATCH), torch.int64)
    assert batch.excluded is None
    assert batch.numbers == (5, 2)
    batch = PatchSampler(unlabelled, PATCH, 0).batch([0])
    assert batch.labels is None
    assert (batch.excluded.shape, batch.excluded.dtype) == ((1, 1, *PATCH), torch.bool)


def test_unaugmented_patches_are_the_stores_voxels_and_stay_inside(labelled):
    sampler = PatchSampler(labelled, PATCH, 0, foreground_labels=(), names=["a", "b"])
    starts = []
    for sample in sampler.read(range(200)):
        shape = labelled.shape(sample.case_name)
        assert all(low >= 0 and high <= size for (low, high), size in zip(sample.box, shape, strict=True))
        if sample.case_name == "a":
            starts.append(sample.start)
        place = tuple(slice(low, high) for low, high in sample.box)
        np.testing.assert_array_equal(sample.window.image, labelled.read_image(sample.case_name)[(slice(None), *place)])
        np.testing.assert_array_equal(sample.window.labels, labelled.read_labels(sample.case_name)[place])
    assert set(np.array(starts)[:, 0]) == set(range(20 - 8 + 1))


def test_cases_are_drawn_equally_often(labelled):
    names = PatchSampler(labelled, (1, 1, 1), 0).batch(range(1500)).case_names
    assert all(abs(names.count(name) - 500) < 75 for name in "abc")


@pytest.mark.parametrize("share", [0.0, 0.33, 1 / 3, 0.5, 1.0])
def test_the_foreground_share_is_exact_over_any_stretch_of_numbers(share):
    flags = np.array([is_foreground_sample(number, share) for number in range(3000)])
    sums = np.concatenate([[0], flags.cumsum()])
    for length in (1, 2, 7, 100, 1000):
        counts = sums[length:] - sums[:-length]
        assert np.abs(counts - share * length).max() < 1 + 1e-9


def test_foreground_samples_hold_a_label_and_each_label_gets_its_turn(labelled):
    sampler = PatchSampler(labelled, (3, 3, 3), 0, names=["a", "b"], foreground_share=1.0, foreground_labels=(1, 5))
    labels = sampler.batch(range(300)).labels
    holds_1, holds_5 = ((labels == value).flatten(1).any(1) for value in (1, 5))
    assert (holds_1 | holds_5).all()
    assert abs(int(holds_1.sum()) - 150) < 40
    centres = labels[:, 1, 1, 1]
    assert ((centres == 1) | (centres == 5)).float().mean() > 0.9


def test_the_ignore_value_is_no_foreground_when_labels_are_named(labelled):
    def centre_values(labels: tuple[int, ...]) -> set[int]:
        places = PatchPlaces(
            store=labelled,
            names=("a",),
            patch_size=(1, 1, 1),
            seed=0,
            foreground_share=1.0,
            foreground_labels=frozenset(labels),
        )
        spots = [places.place(number)[1] for number in range(40)]
        return {int(labelled.read_labels("a")[spot]) for spot in spots}

    assert centre_values((1, 5)) == {1, 5}
    assert centre_values((5,)) == {5}


def test_a_case_without_foreground_is_sampled_anywhere(labelled):
    sampler = PatchSampler(labelled, PATCH, 0, names=["c"], foreground_share=1.0, foreground_labels=(1, 5))
    assert len({sample.start for sample in sampler.read(range(20))}) > 10


@pytest.mark.parametrize("config", [NONE, QUICK], ids=["none", "quick"])
def test_the_ignore_value_reaches_the_labels(labelled, config):
    sampler = PatchSampler(labelled, (20, 20, 20), 0, names=["a"], foreground_labels=(1, 5), augmentation=config)
    values = sampler.batch(range(12)).labels.unique().tolist()
    assert values == [-1, 0, 1, 5]


def test_a_small_volume_lies_in_the_middle_of_its_patch_surrounded_by_zeros(unlabelled):
    batch = PatchSampler(unlabelled, (11, 20, 24), 0, names=["plain"]).batch([0])
    image = unlabelled.read_image("plain")
    assert torch.equal(batch.image[0, :, 2:8, :, 2:22], torch.from_numpy(image))
    assert batch.image.abs().sum() == pytest.approx(float(np.abs(image).sum()), rel=1e-5)
    assert batch.excluded is None


def test_anonymised_voxels_and_what_lies_outside_such_a_volume_are_excluded(unlabelled):
    sampler = PatchSampler(unlabelled, (16, 20, 20), 0)
    batch = sampler.batch(range(12))
    masked = batch.case_names.index("masked")
    expected = np.ones((16, 20, 20), bool)
    expected[1:15, 2:17, 2:18] = unlabelled.read_excluded("masked")
    np.testing.assert_array_equal(batch.excluded[masked, 0], expected)
    assert not batch.excluded[batch.case_names.index("plain")].any()


def test_supervised_samples_exclude_nothing(tmp_path):
    store = CaseStore.create(tmp_path / "store")
    store.write("x", np.ones((1, 9, 9, 9), np.float32), np.ones((9, 9, 9), np.int16), excluded=np.ones((9, 9, 9), bool))
    assert PatchSampler(store, (4, 4, 4), 0, foreground_share=0.3).batch([0]).excluded is None


def test_excluded_voxels_turn_with_the_image(tmp_path):
    store = CaseStore.create(tmp_path / "store")
    bright = np.zeros((30, 30, 30), np.float32)
    bright[8:18, 10:22, 6:16] = 1
    store.write("x", bright[None], excluded=bright > 0)
    config = dataclasses.replace(NONE, rotation_probability=1.0, scaling_probability=1.0, mirror_axes=(0, 1, 2))
    batch = PatchSampler(store, (20, 20, 20), 0, augmentation=config).batch(range(6))
    clear = (batch.image - 0.5).abs() > 1e-3
    held = batch.image > 0.5
    assert held.any()
    assert batch.excluded[held & clear].all()
    assert 0.5 < batch.excluded.sum() / held.sum() < 2


def test_patches_are_centred_outside_the_anatomy_mask(unlabelled):
    sampler = PatchSampler(unlabelled, (3, 3, 3), 0, names=["masked"])
    free = ~unlabelled.read_anatomy("masked")
    assert all(free[tuple(first + 1 for first in sample.start)] for sample in sampler.read(range(60)))


def test_a_case_that_is_all_anatomy_is_still_sampled(tmp_path):
    store = CaseStore.create(tmp_path / "store")
    store.write("x", np.ones((1, 9, 9, 9), np.float32), anatomy=np.ones((9, 9, 9), bool))
    assert PatchSampler(store, (4, 4, 4), 0).batch([0, 1]).image.all()


def test_only_samples_with_rotation_or_scaling_read_more_than_their_patch(labelled):
    sampler = PatchSampler(labelled, PATCH, 0, augmentation=FINETUNING)
    for sample in sampler.read(range(60)):
        size = tuple(high - low for low, high in sample.box)
        assert sample.parameters.spatial.interpolates or size == PATCH


def test_impossible_requests_are_refused(labelled):
    with pytest.raises(DatasetError, match="no case 'zz'"):
        PatchSampler(labelled, PATCH, 0, names=["a", "zz"])
    with pytest.raises(DatasetError, match="no cases to train on"):
        PatchSampler(labelled, PATCH, 0, names=[])
    with pytest.raises(ConfigError, match="patch_size"):
        PatchSampler(labelled, (0, 4, 4), 0)
    with pytest.raises(ConfigError, match="seed is -1"):
        PatchSampler(labelled, PATCH, -1)
    with pytest.raises(ConfigError, match="foreground_share is"):
        PatchSampler(labelled, PATCH, 0, foreground_share=1.5)


def test_a_supervised_sampler_refuses_cases_without_labels(unlabelled):
    with pytest.raises(DatasetError, match="labels"):
        PatchSampler(unlabelled, PATCH, 0, foreground_labels=(1,)).batch([0])
