import json
from pathlib import Path

from s3d.preparation.importers.bids import find_in_bids, parse_bids_name
from s3d.preparation.importers.found_image import FoundImage


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def by_name(found: list[FoundImage]) -> dict[str, FoundImage]:
    return {image.path.name.split(".")[0]: image for image in found}


def test_subject_session_and_modality_come_from_the_bids_name(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-t1_T2w.nii.gz",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "sub-02/anat/sub-02_weird.nii.gz",
        "sub-02/anat/sub-02_part-phase_T1w.nii.gz",
    )
    found = by_name(find_in_bids(tmp_path))
    described = {name: (image.subject, image.session, image.modality) for name, image in found.items()}
    assert described == {
        "sub-01_ses-a_T1w": ("sub-01", "a", "T1"),
        "sub-01_ses-a_acq-t1_T2w": ("sub-01", "a", "T2"),
        "sub-02_FLAIR": ("sub-02", None, "T2-FLAIR"),
        "sub-02_task-rest_bold": ("sub-02", None, "BOLD"),
        "sub-02_weird": ("sub-02", None, "unknown"),
        "sub-02_part-phase_T1w": ("sub-02", None, "PHASE"),
    }


def test_derivatives_and_files_of_no_subject_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "derivatives/x/sub-1/anat/sub-1_T1w.nii.gz", "sourcedata/sub-1_T1w.nii.gz", "template_T1w.nii.gz")
    touch(tmp_path, "rawdata/sub-1/anat/sub-1_T1w.nii.gz")
    assert [image.path.relative_to(tmp_path).parts[0] for image in find_in_bids(tmp_path)] == ["rawdata"]


def test_a_derivatives_folder_given_by_itself_is_read(tmp_path: Path) -> None:
    touch(tmp_path, "derivatives/x/sub-1/anat/sub-1_T1w.nii.gz")
    assert len(find_in_bids(tmp_path / "derivatives" / "x")) == 1


def test_defacing_masks_go_with_the_image_they_name_wherever_they_lie(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-1/anat/sub-1_acq-a_T1w.nii.gz",
        "sub-1/anat/sub-1_acq-b_T1w.nii.gz",
        "sub-1/anat/sub-1_T2w.nii.gz",
        "sub-2/anat/sub-2_T1w.nii.gz",
        "sub-3/anat/sub-3_T1w.nii.gz",
        "sub-4/anat/sub-4_T1w.nii.gz",
        "sub-1/anat/sub-1_acq-a_mod-T1w_defacemask.nii.gz",
        "sub-1/anat/sub-1_T2w_defacemask.nii.gz",
        "derivatives/deface/sub-2/anat/sub-2_desc-deface_mask.nii.gz",
        "derivatives/seg/sub-4/anat/sub-4_desc-brain_mask.nii.gz",
    )
    found = by_name(find_in_bids(tmp_path))
    masks = {name: image.anonymization_mask and image.anonymization_mask.name for name, image in found.items()}
    assert masks == {
        "sub-1_acq-a_T1w": "sub-1_acq-a_mod-T1w_defacemask.nii.gz",
        "sub-1_acq-b_T1w": None,
        "sub-1_T2w": "sub-1_T2w_defacemask.nii.gz",
        "sub-2_T1w": "sub-2_desc-deface_mask.nii.gz",
        "sub-3_T1w": None,
        "sub-4_T1w": None,
    }


def test_the_sidecar_tells_a_t1_flair_from_a_t2_flair(tmp_path: Path) -> None:
    touch(tmp_path, "sub-1/anat/sub-1_FLAIR.nii.gz", "sub-2/anat/sub-2_FLAIR.nii.gz", "sub-3/anat/sub-3_FLAIR.nii.gz")
    times = {"RepetitionTime": 2.0, "EchoTime": 0.009, "InversionTime": 0.8}
    (tmp_path / "sub-1/anat/sub-1_FLAIR.json").write_text(json.dumps(times))
    (tmp_path / "sub-2/anat/sub-2_FLAIR.json").write_text("damaged {")
    modalities = [image.modality for image in find_in_bids(tmp_path)]
    assert modalities == ["T1-FLAIR", "T2-FLAIR", "T2-FLAIR"]


def test_a_bids_name_is_taken_apart() -> None:
    name = parse_bids_name("sub-01_ses-02_acq-a-b_T1w")
    assert (dict(name.entities), name.suffix) == ({"sub": "01", "ses": "02", "acq": "a-b"}, "T1w")


def test_real_isles_case_gives_three_raw_images(test_data: Path) -> None:
    found = by_name(find_in_bids(test_data / "isles22_case0009"))
    assert {name.rsplit("_")[-1]: image.modality for name, image in found.items()} == {
        "adc": "ADC",
        "dwi": "DWI",
        "flair": "T2-FLAIR",
    }
    assert {(image.subject, image.session) for image in found.values()} == {("sub-strokecase0009", "0001")}
