"""Virtual subjects: the labels lie on the deformed anatomy, each subject is its own, and nothing depends on luck."""

import dataclasses
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from s3d.data.dataset import read_dataset
from s3d.data.image_files import read_labels, read_volume, same_grid
from s3d.demo.deformation import DeformationOptions, draw_deformation
from s3d.demo.virtual_subjects import (
    LABELS,
    Subject,
    Template,
    VirtualSubjectOptions,
    draw_subject,
    load_template,
    make_virtual_subjects,
    virtual_subjects,
)
from s3d.errors import ConfigError
from s3d.progress import Progress, read_events

COARSE = VirtualSubjectOptions(spacing_mm=4.0)
STILL = DeformationOptions(displacement_mm=(0, 0), rotation_degrees=0, scaling=0)
SEED = 7


@pytest.fixture(scope="module")
def template() -> Template:
    return load_template(blur_mm=1.0)


@pytest.fixture(scope="module")
def subjects(template: Template) -> list[Subject]:
    return list(virtual_subjects(template, 3, SEED, COARSE))


@pytest.fixture(scope="module")
def dataset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("virtual")
    progress = Progress(home / "events.jsonl")
    folder = make_virtual_subjects(home / "subjects", 2, SEED, progress, COARSE)
    progress.close()
    return folder


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


def template_labels(template: Template) -> NDArray[np.int64]:
    _, grey, white = template.anatomy
    return np.stack([1 - grey - white, grey, white]).argmax(axis=0)


def test_labels_are_the_template_s_own_labels_carried_along(template: Template, subjects: list[Subject]) -> None:
    """Slow obvious version: label the template first, then look up the nearest voxel under the same deformation."""
    subject = subjects[1]
    points = np.indices(subject.labels.shape, dtype=np.float32) * 4
    source = draw_deformation(points, template.size_mm, COARSE.deformation, np.random.default_rng([SEED, 1]))
    carried = map_coordinates(template_labels(template), source, order=0)
    unmoved = map_coordinates(template_labels(template), points, order=0)
    for value in LABELS.values():
        assert dice(subject.labels == value, carried == value) > 0.95
        assert dice(subject.labels == value, unmoved == value) < 0.9


def test_the_image_shows_what_the_labels_say(subjects: list[Subject]) -> None:
    for subject in subjects:
        grey, white = (subject.image[subject.labels == value].mean() for value in LABELS.values())
        outside = subject.image[subject.labels == 0].mean()
        assert outside < 0.2 * grey < 0.2 * white


def test_each_tissue_has_the_volume_of_a_human_brain(subjects: list[Subject]) -> None:
    for subject in subjects:
        grey_ml, white_ml = ((subject.labels == value).sum() * 4**3 / 1000 for value in LABELS.values())
        assert 600 < grey_ml < 1600
        assert 350 < white_ml < 900


def test_a_subject_does_not_depend_on_how_many_are_made(template: Template, subjects: list[Subject]) -> None:
    alone = draw_subject(template, COARSE, np.random.default_rng([SEED, 2]))
    np.testing.assert_array_equal(alone.image, subjects[2].image)
    np.testing.assert_array_equal(alone.labels, subjects[2].labels)


def test_two_subjects_differ_in_shape_and_in_light(subjects: list[Subject]) -> None:
    first, second = subjects[:2]
    for value in LABELS.values():
        assert 0.3 < dice(first.labels == value, second.labels == value) < 0.9
    assert abs(contrast(first) - contrast(second)) > 0.01


def contrast(subject: Subject) -> float:
    grey, white = (float(subject.image[subject.labels == value].mean()) for value in LABELS.values())
    return white / grey


def test_same_seed_same_bytes(dataset_folder: Path, tmp_path: Path) -> None:
    again = make_virtual_subjects(tmp_path / "again", 2, SEED, Progress(), COARSE)
    other = make_virtual_subjects(tmp_path / "other", 1, SEED + 1, Progress(), COARSE)
    files = sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert len(files) == 5
    for file in files:
        assert (again / file).read_bytes() == (dataset_folder / file).read_bytes(), file
    image = Path("imagesTr/virtual_000_0000.nii.gz")
    assert (other / image).read_bytes() != (dataset_folder / image).read_bytes()


def test_the_folder_is_a_dataset_that_the_reader_takes(dataset_folder: Path) -> None:
    dataset = read_dataset(dataset_folder)
    assert dataset.labels == LABELS
    assert dataset.channels == ("T1",)
    assert [case.name for case in dataset.cases] == ["virtual_000", "virtual_001"]
    for case in dataset.cases:
        volume, (labels, grid) = read_volume(case.images[0]), read_labels(case.labels)
        assert same_grid(volume.grid, grid)
        assert set(np.unique(labels)) == {0, 1, 2}


def test_an_undeformed_subject_lies_where_the_template_lies(template: Template, tmp_path: Path) -> None:
    """Voxel to millimetre as another library reads the file; the template is left-right symmetric, so x is not told."""
    still = dataclasses.replace(COARSE, deformation=STILL)
    folder = make_virtual_subjects(tmp_path / "still", 1, SEED, Progress(), still)
    written = nibabel.load(folder / "labelsTr" / "virtual_000.nii.gz")
    labels = np.asarray(written.dataobj)
    voxels = np.indices(labels.shape).reshape(3, -1)
    points_mm = nibabel.affines.apply_affine(written.affine, voxels.T).T
    nearest = np.rint(points_mm - np.reshape(template.corner_mm, (3, 1))).astype(int)
    expected = template_labels(template)[tuple(nearest)].reshape(labels.shape)
    for value in LABELS.values():
        assert dice(labels == value, expected == value) > 0.95


def test_progress_counts_every_subject(dataset_folder: Path) -> None:
    last = read_events(dataset_folder.parent / "events.jsonl")[-1]
    assert (last["stage"], last["step"], last["of"]) == ("virtual subjects", 2, 2)


def test_without_nilearn_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(ConfigError, match=r"pip install nilearn.*--data"):
        load_template(blur_mm=1.0)


def test_no_subjects_and_impossible_voxels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 virtual subjects"):
        make_virtual_subjects(tmp_path, 0, SEED, Progress())
    with pytest.raises(ConfigError, match="spacing_mm is 9"):
        VirtualSubjectOptions(spacing_mm=9)
