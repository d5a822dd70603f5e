import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from matplotlib.image import imread
from scipy import ndimage

from s3d.evaluation.pictures import overlay_figure, reconstruction_figure

SHAPE = (30, 36, 24)
SPACING_MM = (2.0, 1.0, 1.5)
SKY_BLUE, ORANGE, PANEL = (86, 180, 233), (230, 159, 0), (38, 50, 74)


def pixels(png):
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


def of_color(picture, color):
    return np.abs(picture - color).max(axis=-1) <= 8


def panels(picture):
    """(rows, columns) of the panels without image, from left to right."""
    regions, _ = ndimage.label(of_color(picture, PANEL))
    boxes = [box for box in ndimage.find_objects(regions) if min(side.stop - side.start for side in box) > 100]
    return sorted(boxes, key=lambda box: box[1].start)


def cube(z, y, x):
    """A label of 6 x 6 x 6 voxels with its first corner there."""
    labels = np.zeros(SHAPE, dtype=int)
    labels[z : z + 6, y : y + 6, x : x + 6] = 1
    return labels


def centre(picture, box, color):
    """Where the pixels of a colour lie in a panel: 0 to 1 from the top and from the left."""
    return np.argwhere(of_color(picture[box], color)).mean(axis=0) / [side.stop - side.start for side in box]


def test_slices_follow_the_radiological_convention():
    """A structure high, at the back and on the patient's left in LPS axes: z, y and x all large."""
    picture = pixels(overlay_figure(None, cube(22, 28, 16), {}, (1, 1, 1)))
    axial, coronal, sagittal = (centre(picture, box, SKY_BLUE) for box in panels(picture))
    assert (axial > 0.6).all()  # back of the head below, left of the patient on the right
    assert coronal[0] < 0.4 < 0.6 < coronal[1]  # top of the head above, left of the patient on the right
    assert sagittal[0] < 0.4 < 0.6 < sagittal[1]  # top of the head above, back of the head on the right


def test_voxels_keep_their_proportions_at_one_scale():
    picture = pixels(overlay_figure(None, np.zeros(SHAPE, dtype=int), {}, SPACING_MM, axes_are_lps=False))
    sizes = [[side.stop - side.start for side in box] for box in panels(picture)]
    z_mm, y_mm, x_mm = (count * spacing for count, spacing in zip(SHAPE, SPACING_MM, strict=True))
    scale = sizes[0][0] / y_mm
    np.testing.assert_allclose(sizes, np.array([(y_mm, x_mm), (z_mm, x_mm), (z_mm, y_mm)]) * scale, atol=2)


def test_truth_and_prediction_are_outlined_where_they_are():
    picture = pixels(overlay_figure(None, cube(10, 10, 2), {"Prediction": cube(10, 10, 14)}, (1, 1, 1)))
    axial = panels(picture)[0]
    assert centre(picture, axial, SKY_BLUE)[1] < 0.4 < 0.6 < centre(picture, axial, ORANGE)[1]


def test_a_structure_that_touches_the_edge_is_outlined_on_all_sides():
    labels = np.ones(SHAPE, dtype=int)
    picture = pixels(overlay_figure(None, labels, {}, (1, 1, 1), axes_are_lps=False))
    inside = of_color(picture[panels(picture)[0]], SKY_BLUE)
    assert inside[:4].any()
    assert inside[-4:].any()
    assert inside[:, :4].any()
    assert inside[:, -4:].any()


def test_the_slices_drawn_are_those_with_most_of_the_truth():
    """Two structures with nothing between them: the volume's centre shows neither."""
    labels = cube(4, 10, 1) + cube(20, 10, 17)
    picture = pixels(overlay_figure(None, labels, {}, (1, 1, 1)))
    assert all(of_color(picture[box], SKY_BLUE).any() for box in panels(picture))


def test_only_the_neighbourhood_of_the_outlines_is_drawn():
    labels = np.zeros((90, 90, 90), dtype=int)
    labels[10:20, 40:50, 40:50] = 1
    with_far_noise, clean = np.random.default_rng(0).normal(size=(2, *labels.shape))
    with_far_noise[:45] = clean[:45]
    assert overlay_figure(with_far_noise, labels, {}, (1, 1, 1)) == overlay_figure(clean, labels, {}, (1, 1, 1))
    assert overlay_figure(-clean, labels, {}, (1, 1, 1)) != overlay_figure(clean, labels, {}, (1, 1, 1))


@pytest.mark.parametrize("directions", [True, False])
def test_empty_labels_and_a_constant_image_can_be_drawn(directions):
    empty = np.zeros(SHAPE, dtype=int)
    assert pixels(overlay_figure(empty * 1.0, empty, {"A": empty, "B": empty}, (1, 1, 1), axes_are_lps=directions)).size


def test_threads_drawing_at_once_give_the_pictures_of_one():
    alone = [overlay_figure(None, cube(4, 10, x), {}, (1, 1, 1), title=str(x)) for x in (1, 9, 17)]
    with ThreadPoolExecutor(3) as pool:
        together = pool.map(lambda x: overlay_figure(None, cube(4, 10, x), {}, (1, 1, 1), title=str(x)), (1, 9, 17))
    assert list(together) == alone


def test_hidden_blocks_are_shown_in_the_masked_column_only():
    volume = np.random.default_rng(0).normal(size=SHAPE)
    visible = np.ones(SHAPE, dtype=bool)
    visible[12:18, 15:21, 9:15] = False  # on all three middle slices
    picture = pixels(reconstruction_figure(volume, visible, np.zeros(SHAPE), SPACING_MM))
    columns = np.flatnonzero(of_color(picture, PANEL).sum(axis=0) > 5) / picture.shape[1]
    assert columns.min() > 0.25
    assert columns.max() < 0.5


def test_where_everything_is_visible_only_the_third_column_shows_the_reconstruction():
    volume = np.random.default_rng(0).normal(size=SHAPE)
    visible = np.ones(SHAPE, dtype=bool)
    one, other = (pixels(reconstruction_figure(volume, visible, rebuilt)) for rebuilt in (volume * 0, volume))
    columns = np.flatnonzero((one != other).any(axis=(0, 2))) / one.shape[1]
    assert columns.min() > 0.5
    assert columns.max() < 0.75
