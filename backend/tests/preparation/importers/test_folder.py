from pathlib import Path

import pytest

from s3d.preparation.importers.folder import find_in_folder, subject_of


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_every_image_below_the_folder_is_found_in_the_order_of_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "a.nii", "deep/er/c.nrrd", "d.mha", "readme.txt", "x.json", "a.NII.GZ")
    touch(tmp_path, "._b.nii.gz", ".cache/e.nii.gz")  # copies that macOS makes, hidden folders
    names = [image.path.relative_to(tmp_path).as_posix() for image in find_in_folder(tmp_path)]
    assert names == ["a.NII.GZ", "a.nii", "b.nii.gz", "d.mha", "deep/er/c.nrrd"]


def test_modality_comes_from_the_name_then_from_the_nearest_folder(tmp_path: Path) -> None:
    root = tmp_path / "archive_T2"
    touch(root, "images_T1/1_SS.nii.gz", "images_T1/2_flair.nii.gz", "other/3.nii.gz", "labelsTr/4.nii.gz")
    found = {image.path.name: image.modality for image in find_in_folder(root)}
    assert found == {"1_SS.nii.gz": "T1", "2_flair.nii.gz": "T2-FLAIR", "3.nii.gz": "T2", "4.nii.gz": "mask"}


@pytest.mark.parametrize(
    ("stem", "folders", "subject"),
    [
        ("105755_AXFLAIR_SE8001", ["subjects_flair"], "105755"),
        ("1000_SS", ["images_T1_SS"], "1000"),
        ("T1_N4_noneck", ["patient07"], "patient07"),
        ("Flair_subtrMeanDivStd", ["brats_2013_pat0001_1"], "brats_2013_pat0001_1"),
        ("hippocampus_378_0000", [], "hippocampus_378"),
        ("sub-01_T1w", [], "sub-01"),
        ("scan", ["T1", "sub-ab"], "sub-ab"),
        ("brainchop_t1_crop", ["images_T2"], "brainchop_t1_crop"),
    ],
)
def test_the_subject_is_read_from_names(stem: str, folders: list[str], subject: str) -> None:
    assert subject_of(stem, folders) == subject
