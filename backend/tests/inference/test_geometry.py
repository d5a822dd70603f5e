"""The whole way, from file to file: oblique, flipped, anisotropic, in any of the 48 axis orders."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3d.bundle import save_bundle
from s3d.data.image_files import read_volume
from s3d.inference.config import SegmentConfig
from s3d.inference.predictor import Predictor
from s3d.inference.run import segment
from s3d.training.device import Device

CPU = Device(torch.device("cpu"), "fp32")
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product([False, True], repeat=3)))
RADII_MM = np.array([13.0, 9.0, 11.0])


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Direction cosines of a grid turned about its three axes."""
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*np.deg2rad(degrees))
    return np.reshape(transform.GetMatrix(), (3, 3))


def phantom(direction: np.ndarray, spacing_mm: tuple[float, float, float], middle_mm=(-20.0, 35.0, 10.0)) -> sitk.Image:
    """An ellipsoid (100) with a brighter ball on its left (200) in tissue (50): where they are in millimetres does not
    depend on the grid. spacing (x, y, z), middle LPS."""
    size = [round(44 / step) for step in spacing_mm]
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing_mm)
    image.SetDirection(direction.ravel())
    centre_index = [(n - 1) / 2 for n in size]
    centre_mm = np.array(image.TransformContinuousIndexToPhysicalPoint(centre_index))
    image.SetOrigin(np.array(middle_mm) - centre_mm)
    points = physical_points(image) - middle_mm
    voxels = np.full(points.shape[:3], 50.0, np.float32)
    voxels[((points / RADII_MM) ** 2).sum(-1) < 1] = 100
    voxels[((points - [6.0, 0.0, 2.0]) ** 2).sum(-1) < 3.5**2] = 200
    filled = sitk.GetImageFromArray(voxels)
    filled.CopyInformation(image)
    return filled


def physical_points(image: sitk.Image) -> np.ndarray:
    """LPS millimetres of every voxel, (z, y, x, 3)."""
    z, y, x = (np.arange(n) for n in image.GetSize()[::-1])
    indices = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    step = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    return np.array(image.GetOrigin()) + indices @ step.T


def reordered(image: sitk.Image, order: tuple) -> sitk.Image:
    """The same voxels at the same places, stored with other axes."""
    permutation, flips = order
    return sitk.Flip(sitk.PermuteAxes(image, permutation), flips, False)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("order", [ORDERS[0], ((2, 0, 1), (True, False, True))], ids=["plain", "turned"])
def test_a_known_shape_comes_back_in_its_place(make_bundle, use_network, threshold, tmp_path, ending, order):
    image = reordered(phantom(rotation((12, -20, 8)), (0.8, 1.1, 3.2)), order)
    path = tmp_path / f"phantom{ending}"
    sitk.WriteImage(image, str(path))
    voxels = sitk.GetArrayFromImage(image)
    # half way between tissue and ellipsoid, in the units the network sees
    use_network(threshold(float((75 - voxels.mean()) / voxels.std())))
    bundle = make_bundle(patch_size=(32, 32, 32))
    save_bundle(tmp_path / "toy.s3dmodel", bundle.description, bundle.weights)
    segment(SegmentConfig(model=tmp_path / "toy.s3dmodel", input=(path,), output=tmp_path / "out", device="cpu"))
    result = sitk.ReadImage(str(tmp_path / "out" / path.name))
    stored = sitk.ReadImage(str(path))
    assert result.GetSize() == stored.GetSize()
    for name in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(result, name)(), getattr(stored, name)(), atol=1e-5)
    labels, truth = sitk.GetArrayFromImage(result), voxels > 75
    assert set(np.unique(labels)) == {0, 7}
    assert 2 * ((labels == 7) & truth).sum() / ((labels == 7).sum() + truth.sum()) > 0.97
    # the centre of mass in millimetres, far below a voxel: nothing is shifted by half a voxel on the way
    places = physical_points(stored)
    np.testing.assert_allclose(places[labels == 7].mean(axis=0), places[truth].mean(axis=0), atol=0.1)


def labels_in_every_order(image: sitk.Image, predictor: Predictor, orders: list, folder: Path) -> list[np.ndarray]:
    """The labels of each stored order, put back into the axes of image."""
    results = []
    for number, order in enumerate(orders):
        stored = reordered(image, order)
        path = folder / f"{number}.nrrd"
        sitk.WriteImage(stored, str(path))
        labels = sitk.GetImageFromArray(predictor.segment(read_volume(path)).labels)
        labels.CopyInformation(stored)
        permutation, flips = order
        inverse = [permutation.index(axis) for axis in range(3)]
        results.append(sitk.GetArrayFromImage(sitk.PermuteAxes(sitk.Flip(labels, flips, False), inverse)))
    return results


def random_image(shape: tuple[int, int, int], spacing_mm: tuple[float, ...], degrees: tuple[float, ...]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    image.SetSpacing(spacing_mm)
    image.SetOrigin((3.0, -40.0, 11.0))
    image.SetDirection(rotation(degrees).ravel())
    return image


def check_all_orders_agree(bundle, image: sitk.Image, orders: list, folder: Path) -> np.ndarray:
    results = labels_in_every_order(image, Predictor(bundle, CPU), orders, folder)
    for order, result in zip(orders, results, strict=True):
        np.testing.assert_array_equal(result, results[0], err_msg=str(order))
    return results[0]


def test_all_48_axis_orders_give_one_segmentation(make_bundle, tmp_path):
    image = random_image((11, 13, 9), (0.9, 1.2, 1.5), (10, -15, 20))
    labels = check_all_orders_agree(make_bundle(patch_size=(8, 12, 16)), image, ORDERS, tmp_path)
    assert len(np.unique(labels)) > 1


SHAPES = st.tuples(*[st.integers(8, 14)] * 3)
SPACINGS = st.tuples(*[st.sampled_from([0.7, 1.0, 1.4, 3.9])] * 3)
ANGLES = st.tuples(*[st.integers(-20, 20)] * 3)
PAIRS = st.lists(st.sampled_from(ORDERS), min_size=2, max_size=2)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES, SPACINGS, ANGLES, PAIRS)
def test_any_geometry_gives_one_segmentation_in_any_axis_order(make_bundle, tmp_path, shape, spacing, angles, orders):
    image = random_image(shape, spacing, angles)
    check_all_orders_agree(make_bundle(patch_size=(8, 12, 16)), image, [ORDERS[0], *orders], tmp_path)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SHAPES, SPACINGS, ANGLES, PAIRS)
def test_any_geometry_many_times(make_bundle, tmp_path, shape, spacing, angles, orders):
    image = random_image(shape, spacing, angles)
    check_all_orders_agree(make_bundle(patch_size=(8, 12, 16)), image, [ORDERS[0], *orders], tmp_path)
