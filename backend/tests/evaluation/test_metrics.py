import math
import subprocess
import sys

import numpy as np
import pytest
import surface_distance
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from s3d.errors import GeometryError
from s3d.evaluation.metrics import dice, hausdorff_95, joint_box, surface_dice, volume_ml

SPACINGS_MM = ((1.0, 1.0, 1.0), (3.0, 0.5, 0.7), (1.2, 1.0, 0.9))
AGREEMENT = 1e-6  # MONAI computes in float32


def nsd_of_deepmind(reference, prediction, spacing_mm, tolerance_mm):
    """The package google-deepmind/surface-distance, written for a scipy whose old names still work with a warning."""
    distances = surface_distance.compute_surface_distances(reference, prediction, spacing_mm)
    return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)


def slow_hausdorff_95(reference, prediction, spacing_mm):
    borders = [np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing_mm for mask in (reference, prediction)]
    distances = cdist(*borders)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


def random_masks(seed, shape=(7, 8, 9)):
    generator = np.random.default_rng(seed)
    smooth = [ndimage.gaussian_filter(generator.standard_normal(shape), 1) for _ in range(2)]
    return [field > np.quantile(field, generator.uniform(0.3, 0.9)) for field in smooth]


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_surface_dice_equals_deepminds_on_real_labels(hippocampus_labels, spacing_mm):
    for index, labels in enumerate(hippocampus_labels):
        for value in (1, 2):
            reference = labels == value
            prediction = np.roll(
                ndimage.binary_dilation(reference, iterations=index % 2 + 1), index - 2, axis=index % 3
            )
            for tolerance_mm in (0.5, 1.0, 2.0):
                ours = surface_dice(reference, prediction, spacing_mm, tolerance_mm)
                theirs = nsd_of_deepmind(reference, prediction, spacing_mm, tolerance_mm)
                assert ours == pytest.approx(theirs, abs=AGREEMENT)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), spacing_mm=st.tuples(*[st.floats(0.3, 4)] * 3), tolerance_mm=st.floats(0.2, 4))
def test_surface_dice_equals_deepminds_for_masks_that_touch_the_volumes_edge(seed, spacing_mm, tolerance_mm):
    reference, prediction = random_masks(seed)
    ours = surface_dice(reference, prediction, spacing_mm, tolerance_mm)
    assert ours == pytest.approx(nsd_of_deepmind(reference, prediction, spacing_mm, tolerance_mm), abs=AGREEMENT)


def test_surface_dice_weighs_surfaces_by_area_not_by_border_voxels():
    """Slices of 4 mm: a plate within one slice has 1120 mm2, one across the slices with as many voxels 3400 mm2."""
    found, missed = np.zeros((2, 40, 30, 30), dtype=bool)
    found[2, 5:25, 5:25] = True
    missed[15:35, 5:25, 15] = True
    expected = 2 * 1120 / (2 * 1120 + 3400)  # counting border voxels would give 2/3
    assert surface_dice(found | missed, found, (4.0, 1.0, 1.0), 1.0) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_hausdorff_95_equals_all_pairs_of_border_voxels(seed):
    reference, prediction = random_masks(seed, (9, 10, 11))
    for spacing_mm in SPACINGS_MM:
        expected = slow_hausdorff_95(reference, prediction, spacing_mm)
        assert hausdorff_95(reference, prediction, spacing_mm) == pytest.approx(expected, rel=1e-5)


def test_dice_of_a_known_overlap_is_two_intersections_by_the_sum():
    reference, prediction = np.zeros((2, 4, 4, 4), dtype=bool)
    reference[:2], prediction[1:] = True, True
    assert dice(reference, prediction) == 2 * 16 / (32 + 48)


def test_a_shift_within_the_tolerance_is_perfect_and_beyond_it_is_not(ball):
    shifted = np.roll(ball, 1, axis=0)
    assert surface_dice(ball, shifted, (1.5, 1, 1), 1.5) == pytest.approx(1, abs=AGREEMENT)
    assert surface_dice(ball, shifted, (1.5, 1, 1), 1.4) < 0.95
    assert hausdorff_95(ball, shifted, (1.5, 1, 1)) == pytest.approx(1.5)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_same_after_swapping_flipping_and_permuting(seed):
    reference, prediction = random_masks(seed)
    spacing_mm = (2.0, 0.8, 1.1)
    turned = [np.flip(mask.transpose(2, 0, 1), axis=1) for mask in (prediction, reference)]
    turned_mm = (1.1, 2.0, 0.8)
    assert dice(*turned) == dice(reference, prediction)
    for metric in (lambda a, b, s: surface_dice(a, b, s, 1.0), hausdorff_95):
        assert metric(*turned, turned_mm) == pytest.approx(metric(reference, prediction, spacing_mm), abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_empty_space_around_the_masks_changes_nothing(seed):
    reference, prediction = random_masks(seed)
    large = [np.pad(mask, ((9, 1), (0, 14), (5, 5))) for mask in (reference, prediction)]
    spacing_mm = (2.0, 0.8, 1.1)
    assert surface_dice(*large, spacing_mm, 1.0) == surface_dice(reference, prediction, spacing_mm, 1.0)
    assert hausdorff_95(*large, spacing_mm) == hausdorff_95(reference, prediction, spacing_mm)


def test_the_joint_box_holds_both_masks_and_nothing_more():
    first, second = np.zeros((2, 9, 9, 9), dtype=bool)
    first[2, 5, 4] = second[6, 1, 4] = True
    assert joint_box(first, second) == (slice(2, 7), slice(1, 6), slice(4, 5))


def test_nothing_in_both_masks_is_undefined_and_nothing_in_one_is_a_failure(ball):
    empty = np.zeros_like(ball)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(surface_dice(empty, empty, (1, 1, 1)))
    assert math.isnan(hausdorff_95(empty, empty, (1, 1, 1)))
    for pair in ((ball, empty), (empty, ball)):
        assert dice(*pair) == 0
        assert surface_dice(*pair, (1, 1, 1)) == 0
        assert hausdorff_95(*pair, (1, 1, 1)) == math.inf


def test_volume_counts_millilitres():
    mask = np.zeros((20, 20, 20), dtype=bool)
    mask[:10, :10, :10] = True
    assert volume_ml(mask, (2.0, 0.5, 3.0)) == pytest.approx(3.0)


def test_masks_of_different_shape_are_refused(ball):
    with pytest.raises(GeometryError, match=r"\(20, 22, 24\).*\(19, 22, 24\)"):
        dice(ball, ball[1:])
    with pytest.raises(GeometryError, match="same grid"):
        surface_dice(ball, ball[1:], (1, 1, 1))
    with pytest.raises(GeometryError, match="same grid"):
        hausdorff_95(ball, ball[1:], (1, 1, 1))


def test_metrics_do_not_import_monai_before_a_surface_is_measured():
    code = "import sys, s3d.evaluation.scores; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
