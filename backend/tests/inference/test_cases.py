import os
import sys
from pathlib import Path

import pytest

from s3d.errors import ConfigError, DatasetError, ImageError
from s3d.inference.cases import InputCase, find_cases


def touch(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def test_files_are_the_channels_of_one_case_named_after_the_first(tmp_path):
    files = touch(tmp_path, "anna_0000.nrrd", "anna_0001.nii.gz")
    assert find_cases(files, tmp_path / "out") == [InputCase("anna", tuple(files), tmp_path / "out" / "anna.nrrd")]


def test_an_output_with_an_image_ending_is_the_result_itself(tmp_path):
    files = touch(tmp_path, "head.nii.gz")
    assert find_cases(files, tmp_path / "labels.mha")[0].result == tmp_path / "labels.mha"
    (tmp_path / "v1.2").mkdir()
    assert find_cases(files, tmp_path / "v1.2")[0].result == tmp_path / "v1.2" / "head.nii.gz"


@pytest.mark.parametrize("name", ["o.nii.gzz", "x.foo", "o.nii.zip"])
def test_a_mistyped_ending_is_no_folder(name, tmp_path):
    files = touch(tmp_path, "head.nii.gz")
    with pytest.raises(ConfigError, match=r"cannot be written; end it in \.nii\.gz, .* or name a folder"):
        find_cases(files, tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the file system refuses such names")
def test_a_name_that_is_not_utf_8_is_refused_before_any_work(tmp_path):
    bad = os.fsdecode(b"T1_\xfc.nii.gz")
    files = touch(tmp_path / "in", "a.nii.gz", bad)
    for inputs in ([tmp_path / "in"], files[1:]):
        with pytest.raises(ImageError, match=r"T1_\\udcfc\.nii\.gz .*rename it"):
            find_cases(inputs, tmp_path / "out")
    with pytest.raises(ImageError, match="rename it"):
        find_cases(files[:1], tmp_path / bad)


def test_a_folder_in_nnunet_naming_groups_channels(tmp_path):
    touch(
        tmp_path / "in", "b_0000.nii.gz", "b_0001.nii.gz", "a_0001.nii.gz", "a_0000.nii.gz", "notes.txt", ".hidden.nii"
    )
    cases = find_cases([tmp_path / "in"], tmp_path / "out")
    assert [(case.name, [image.name for image in case.images], case.result.name) for case in cases] == [
        ("a", ["a_0000.nii.gz", "a_0001.nii.gz"], "a.nii.gz"),
        ("b", ["b_0000.nii.gz", "b_0001.nii.gz"], "b.nii.gz"),
    ]


def test_plain_files_are_a_case_each_even_when_their_names_end_in_numbers(tmp_path):
    touch(tmp_path / "in", "sub_0001.nii.gz", "sub_0002.nii.gz", "head.nrrd")
    cases = find_cases([tmp_path / "in"], tmp_path / "out")
    assert [case.name for case in cases] == ["head", "sub_0001", "sub_0002"]
    assert [case.result.name for case in cases] == ["head.nrrd", "sub_0001.nii.gz", "sub_0002.nii.gz"]


def test_a_gap_between_channels_is_seen(tmp_path):
    touch(tmp_path / "in", "a_0000.nii.gz", "a_0002.nii.gz", "b_0000.nii.gz")
    assert [case.missing for case in find_cases([tmp_path / "in"], tmp_path / "out")] == ["a_0001.nii.gz", None]


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"no file or folder .*absent\.nii\.gz"):
        find_cases([tmp_path / "absent.nii.gz"], tmp_path)


def test_an_empty_folder_is_refused(tmp_path):
    touch(tmp_path / "in", "readme.txt")
    with pytest.raises(DatasetError, match=r"in holds no image \(\.nii\.gz"):
        find_cases([tmp_path / "in"], tmp_path / "out")


def test_a_folder_cannot_go_into_one_file(tmp_path):
    touch(tmp_path / "in", "a.nii")
    with pytest.raises(ConfigError, match=r"the output must be one, too; .*out\.nii names a file"):
        find_cases([tmp_path / "in"], tmp_path / "out.nii")


def test_folders_and_files_do_not_mix(tmp_path):
    files = touch(tmp_path / "in", "a.nii")
    with pytest.raises(ConfigError, match="one folder, or the files of one case"):
        find_cases([*files, tmp_path / "in"], tmp_path / "out")


def test_a_result_never_overwrites_an_image(tmp_path):
    files = touch(tmp_path / "in", "a.nii")
    for inputs, output in ((files, files[0]), (files, tmp_path / "in"), ([tmp_path / "in"], tmp_path / "in")):
        with pytest.raises(ConfigError, match=r"would overwrite the image .*a\.nii; choose another output"):
            find_cases(inputs, output)


def test_two_cases_never_share_a_result(tmp_path):
    touch(tmp_path / "in", "a.nii", "a_0000.nii", "b.nii")
    with pytest.raises(DatasetError, match=r"a\.nii and a_0000\.nii are the same channel of case a; rename one"):
        find_cases([tmp_path / "in"], tmp_path / "out")
