import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3d.errors import ConfigError
from s3d.masking import draw_visible, grow, mask_grid, mask_ratio_at

GRIDS = st.tuples(*[st.integers(2, 6)] * 3)


@given(grid=GRIDS, ratio=st.floats(0.2, 0.9), seeds=st.lists(st.integers(0, 2**63), min_size=1, max_size=4))
def test_every_sample_hides_the_floor_of_its_share(grid, ratio, seeds):
    visible = draw_visible(grid, ratio, seeds)
    assert visible.shape == (len(seeds), 1, *grid)
    assert visible.dtype == torch.bool
    assert set((~visible).sum((1, 2, 3, 4)).tolist()) == {math.floor(ratio * math.prod(grid))}


@pytest.mark.parametrize(("ratio", "hidden"), [(0.6, 75), (0.75, 93), (0.9, 112)])
def test_the_papers_grid_hides_the_counts_of_the_paper(ratio, hidden):  # method.md section 2
    grid = mask_grid((160, 160, 160), 32)
    assert grid == (5, 5, 5)
    assert (~draw_visible(grid, ratio, [0])).sum() == hidden


def test_a_mask_depends_on_its_own_seed_only():
    together = draw_visible((4, 5, 6), 0.7, [3, 8, 3])
    assert torch.equal(together[1:2], draw_visible((4, 5, 6), 0.7, [8]))
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])


def test_every_cell_is_hidden_equally_often():
    shares = (~draw_visible((3, 3, 3), 0.5, range(4000))).double().mean(0)
    standard_error = math.sqrt(0.25 / 4000)
    assert (shares - 13 / 27).abs().max() < 4.5 * standard_error


@pytest.mark.parametrize(("grid", "ratio"), [((1, 1, 1), 0.75), ((2, 2, 2), 0.1)])
def test_a_mask_that_hides_nothing_is_refused(grid, ratio):
    with pytest.raises(ConfigError, match="larger patch"):
        draw_visible(grid, ratio, [0])


def test_the_drawn_ratio_is_a_function_of_seed_and_step_and_fills_its_range():
    drawn = [mask_ratio_at((0.6, 0.9), 7, step) for step in range(500)]
    assert drawn == [mask_ratio_at((0.6, 0.9), 7, step) for step in range(500)]
    assert drawn != [mask_ratio_at((0.6, 0.9), 8, step) for step in range(500)]
    assert min(drawn) == pytest.approx(0.6, abs=0.01)
    assert max(drawn) == pytest.approx(0.9, abs=0.01)
    assert np.mean(drawn) == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("ratio", [0.75, (0.75,), (0.75, 0.75)])
def test_a_static_ratio_stays(ratio):
    assert mask_ratio_at(ratio, 1, 2) == 0.75


@pytest.mark.parametrize("ratio", [0.0, 1.0, (0.9, 0.6), (0.5, 1.2)])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        mask_ratio_at(ratio, 0, 0)


@pytest.mark.parametrize("patch", [(160, 160, 150), (160, 16, 160)])
def test_a_patch_that_blocks_do_not_fill_is_refused(patch):
    with pytest.raises(ConfigError, match="multiples of 32"):
        mask_grid(patch, 32)


@given(grid=GRIDS, factors=st.tuples(*[st.integers(1, 3)] * 3))
def test_a_grown_mask_shows_each_voxel_its_own_cell(grid, factors):
    visible = draw_visible(grid, 0.5, [1, 2])
    shape = tuple(cells * factor for cells, factor in zip(grid, factors, strict=True))
    grown = grow(visible, (2, 7, *shape))
    z, y, x = (torch.arange(size) // factor for size, factor in zip(shape, factors, strict=True))
    assert torch.equal(grown, visible[:, :, z][:, :, :, y][..., x])


def test_a_grid_coarser_than_the_mask_sees_everything():  # method.md section 3
    grown = grow(draw_visible((4, 4, 4), 0.75, [1, 2]), (2, 2, 2))
    assert grown.shape == (2, 1, 2, 2, 2)
    assert grown.all()


@pytest.mark.parametrize("shape", [(10, 8, 8), (2, 8, 8)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    with pytest.raises(ConfigError, match="does not fit"):
        grow(draw_visible((4, 4, 4), 0.75, [1]), shape)
