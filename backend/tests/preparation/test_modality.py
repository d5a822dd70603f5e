import pytest

from s3d.preparation.modality import UNKNOWN, canonical_modality, modality_of, without_modality
from s3d.preparation.timing import (
    Timing,
    modality_from_timing,
    refined_modality,
    timing_from_dicom,
    timing_from_sidecar,
)


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("sub-01_ses-T2_T1w", "T1"),  # the session's name is not the contrast
        ("SagT1", "T1"),
        ("AXT1", "T1"),
        ("t1_mprage_sag_p2_iso", "T1"),
        ("MP-RAGE", "T1"),
        ("UNIT1", "T1"),
        ("T1post", "T1"),
        ("Ax T1 +C", "T1"),
        ("*tfl3d1", "T1"),
        ("T2w", "T2"),
        ("t2_space_sag", "T2"),
        ("inplaneT2", "T2"),
        ("105755_AXFLAIR_SE8001", "T2-FLAIR"),
        ("FLAIR_reg", "T2-FLAIR"),
        ("t2_tirm_tra_dark-fluid", "T2-FLAIR"),
        ("Ax T2 FLAIR FS", "T2-FLAIR"),
        ("t2_space_dark_fluid", "T2-FLAIR"),
        ("T1 FLAIR", "T1-FLAIR"),
        ("t1_tirm_tra", "T1-FLAIR"),
        ("T1_N4_noneck_reduced_winsor_regtoFLAIR_brain_N4_regtoMNI", "T1"),
        ("FLAIR_regtoT1", "T2-FLAIR"),
        ("sub-1_space-FLAIR_T1w", "T1"),
        ("GOLD_STANDARD_N4_noneck_regtoFLAIR", "mask"),
        ("T1_brainmask", "mask"),
        ("labelsTr", "mask"),
        ("ep2d_diff_ADC", "ADC"),
        ("sub-1_ses-1_dwi", "DWI"),
        ("SWI_Pha", "PHASE"),
        ("PhaseImages", "PHASE"),
        ("SWI_Images", "SWI"),
        ("T2*", "T2*"),
        ("T2starw", "T2*"),
        ("T1map", "MAP"),
        ("task-rest_bold", "BOLD"),
        ("TOF_3D", "ANGIO"),
        ("PDw", "PD"),
    ],
)
def test_words_of_scanners_and_people_are_understood(text: str, modality: str) -> None:
    assert modality_of(text) == modality


@pytest.mark.parametrize(
    "text", ["patient1", "visit1_scan", "subject12", "hippocampus_378", "1000_SS", "encephalon", "swisscohort_7", ""]
)
def test_words_that_only_contain_a_modality_by_chance_say_nothing(text: str) -> None:
    assert modality_of(text) == UNKNOWN


@pytest.mark.parametrize("text", ["Encephalon T1w", "headcoil_T1w", "Hardwick_T1w", "Swiss_T1w"])
def test_the_papers_exclusions_must_begin_a_word(text: str) -> None:
    assert modality_of(text) == "T1"


def test_synonyms_have_one_spelling_and_nonsense_has_none() -> None:
    assert [canonical_modality(name) for name in ("t1", "T1w", "MPRAGE", "flair", "t2*", "T2-FLAIR", "mask")] == [
        *["T1"] * 3,
        "T2-FLAIR",
        "T2*",
        "T2-FLAIR",
        "mask",
    ]
    assert canonical_modality("banana") is None


def test_the_contrast_is_taken_out_before_a_patient_number_is_looked_for() -> None:
    assert not any(character.isdigit() for character in without_modality("images_T1_SS"))
    assert "07" in without_modality("patient07")


@pytest.mark.parametrize(
    ("timing", "modality"),
    [
        (Timing(repetition_ms=500, echo_ms=9.5, gradient_echo=False), "T1"),  # T1 spin echo of the TCIA test series
        (Timing(repetition_ms=2300, echo_ms=2.9, inversion_ms=900, gradient_echo=True), "T1"),
        (Timing(repetition_ms=12000, echo_ms=140, inversion_ms=2850), "T2-FLAIR"),  # ISLES'22 case 9
        (Timing(repetition_ms=2000, echo_ms=9, inversion_ms=800), "T1-FLAIR"),
        (Timing(repetition_ms=4000, echo_ms=100), "T2"),
        (Timing(repetition_ms=4000, echo_ms=20, gradient_echo=False), "PD"),
        (Timing(repetition_ms=5000, echo_ms=60, inversion_ms=150), UNKNOWN),  # STIR
        (Timing(repetition_ms=25, echo_ms=4, gradient_echo=True), UNKNOWN),  # FLASH or angiography
        (Timing(repetition_ms=600, echo_ms=20), UNKNOWN),  # T1 if a spin echo, T2* if a gradient echo
        (Timing(echo_ms=4), UNKNOWN),
    ],
)
def test_scan_times_tell_the_textbook_contrasts_and_nothing_else(timing: Timing, modality: str) -> None:
    assert modality_from_timing(timing) == modality


def test_seconds_and_milliseconds_give_the_same_timing() -> None:
    seconds = timing_from_sidecar({"RepetitionTime": 12.0, "EchoTime": 0.14, "InversionTime": 2.85})
    milliseconds = timing_from_sidecar({"RepetitionTime": 12000.0, "EchoTime": 140.0, "InversionTime": 2850.0})
    assert seconds == milliseconds == Timing(repetition_ms=12000, echo_ms=140, inversion_ms=2850)


@pytest.mark.parametrize(
    ("tags", "timing"),
    [
        (
            {"sequence": "*se2d1", "repetition_time_ms": "500", "echo_time_ms": "9.5"},
            Timing(repetition_ms=500, echo_ms=9.5, gradient_echo=False),
        ),
        (
            {"sequence": "*tfl3d1_16ns", "echo_time_ms": "2.9\\3.1", "inversion_time_ms": "n/a"},
            Timing(echo_ms=2.9, gradient_echo=True),
        ),
        ({}, Timing()),
    ],
)
def test_dicom_tags_become_a_timing(tags: dict[str, str], timing: Timing) -> None:
    assert timing_from_dicom(tags) == timing


def test_times_complete_a_name_but_do_not_overrule_it() -> None:
    t1_flair = Timing(repetition_ms=2000, echo_ms=9, inversion_ms=800)
    assert refined_modality("T2-FLAIR", t1_flair) == "T1-FLAIR"
    assert refined_modality(UNKNOWN, t1_flair) == "T1-FLAIR"
    assert refined_modality("T2", t1_flair) == "T2"
