"""What a run works on: the cases, preprocessed as the parent wants them, and what does not fit together."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from s3d.errors import BundleError, ConfigError, DatasetError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.material import Material
from s3d.models.presets import Architecture

Options = Callable[..., FinetuneConfig]
Gathered = Callable[[FinetuneConfig], Material]


def test_labels_keep_their_values_and_channels_of_the_network_follow(options: Options, gathered: Gathered) -> None:
    material = gathered(options())
    assert material.label_names == ("Head", "Tail")
    assert material.label_values == (0, 3, 300)
    assert material.architecture.output_channels == 3
    for case in material.store.names():
        assert set(material.store.foreground(case)) == {3, 300}


def test_the_parent_decides_grid_patch_and_network(
    options: Options, gathered: Gathered, make_parent: Callable[..., Path]
) -> None:
    parent = make_parent(spacing_mm=(2.0, 1.0, 1.0), orientation="as_stored", normalization="none")
    material = gathered(options(parent=parent, patch_size=None, architecture=None, spacing_mm=None))
    assert material.plan.spacing_mm == (2.0, 1.0, 1.0)
    assert (material.plan.orientation, material.plan.normalization) == ("as_stored", "none")
    assert material.patch_size == (16, 16, 16)
    assert material.architecture.features == (4, 8)
    assert material.store.shape("case_0") == (9, 16, 20)


@pytest.mark.parametrize(("features", "patch"), [((4, 8), (18, 16, 20)), ((4, 8, 8, 8), (24, 16, 24))])
def test_from_scratch_the_patch_is_the_median_case_rounded_up_to_the_stride(
    features: tuple[int, ...], patch: tuple[int, int, int], options: Options, gathered: Gathered
) -> None:
    stages = len(features)
    network = Architecture(features=features, blocks=(1,) * stages, decoder_convs=(1,) * (stages - 1))
    assert gathered(options(patch_size=None, architecture=network)).patch_size == patch


@pytest.mark.parametrize("patch", [(15, 16, 16), (2, 2, 2)])
def test_a_patch_the_network_cannot_take_is_refused_before_training(
    patch: tuple[int, int, int], options: Options, gathered: Gathered
) -> None:
    with pytest.raises(ConfigError, match="must be a multiple of 2 voxels"):
        gathered(options(patch_size=patch))


def test_only_the_named_cases_take_part(options: Options, gathered: Gathered) -> None:
    material = gathered(options(cases=("case_4", "case_1")))
    assert tuple(material.patients) == ("case_1", "case_4")
    assert material.store.names() == ("case_1", "case_4")


def test_an_unknown_case_is_refused_by_name(options: Options, gathered: Gathered) -> None:
    with pytest.raises(DatasetError, match=r"no case 'case_9'; its cases are case_0, case_1"):
        gathered(options(cases=("case_9", "case_1")))


def test_patients_come_from_the_table(options: Options, gathered: Gathered, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"case_{i},P{i // 2}\n" for i in range(6)))
    material = gathered(options(patients=table))
    assert material.patients == {f"case_{i}": f"P{i // 2}" for i in range(6)}


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        ({"Head": 3, "Tail": 300}, (0, 1, 2)),
        ({"Hippocampus L": 1, "Hippocampus R": 2}, (0, 1)),
        ({"Left Hippocampus": 1}, (0, 1)),
    ],
)
def test_sides_in_names_switch_off_mirroring_along_x(
    labels: dict[str, int],
    axes: tuple[int, ...],
    options: Options,
    gathered: Gathered,
    make_dataset: Callable[..., Path],
) -> None:
    config = options(dataset=make_dataset(names=("a", "b"), labels=labels))
    assert gathered(config).mirror_axes == axes


def test_more_channels_than_the_parents_make_a_new_stem(
    options: Options, gathered: Gathered, make_dataset: Callable[..., Path], make_parent: Callable[..., Path]
) -> None:
    config = options(dataset=make_dataset(channels=("T1", "T2")), parent=make_parent(), freeze_stem=False)
    material = gathered(config)
    assert material.architecture.input_channels == 2
    assert material.strategy.train_stem_in_decoder_warm_up
    frozen = dataclasses.replace(config, freeze_stem=True)
    assert not gathered(frozen).strategy.train_stem_in_decoder_warm_up


def test_the_parents_channels_in_another_order_are_refused(
    options: Options, gathered: Gathered, make_dataset: Callable[..., Path], make_parent: Callable[..., Path]
) -> None:
    parent = make_parent(labels={"Head": 3}, channels=("T1", "FLAIR"))
    with pytest.raises(BundleError, match=r"channels T1, FLAIR, .* names them FLAIR, T1"):
        gathered(options(dataset=make_dataset(channels=("FLAIR", "T1")), parent=parent))
    gathered(options(dataset=make_dataset("same", channels=("T1", "FLAIR")), parent=parent))


def test_other_options_in_the_same_folder_do_not_mix_two_stores(options: Options, gathered: Gathered) -> None:
    gathered(options())
    with pytest.raises(DatasetError, match=r"made with spacing_mm \[1\.0, 1\.0, 1\.0\], but \[2\.0"):
        gathered(options(spacing_mm=(2.0, 1.0, 1.0)))
