"""Learning rates against the formulas of method.md sections 4 and 6."""

import pytest

from s3d.errors import ConfigError
from s3d.training.schedules import Schedule, Stage, constant, linear_warm_up, poly, single_stage


def test_poly_starts_at_the_maximum_and_falls_to_nearly_zero() -> None:
    rates = [poly(step, 1000, 0.01) for step in range(1000)]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    assert rates[500] == pytest.approx(0.01 * 0.5**0.9)
    assert 0 < rates[-1] < 0.01 * 0.003


def test_warm_up_reaches_the_maximum_with_its_last_step() -> None:
    assert linear_warm_up(0, 50, 1e-3) == pytest.approx(1e-3 / 50)
    assert linear_warm_up(49, 50, 1e-3) == pytest.approx(1e-3)


def test_constant_stays() -> None:
    assert {constant(step, 7, 0.5) for step in range(7)} == {0.5}


def test_every_step_falls_into_exactly_one_stage() -> None:
    schedule = Schedule(
        (
            Stage(name="a", steps=3, shape="linear_warm_up"),
            Stage(name="left out", steps=0, shape="constant"),
            Stage(name="b", steps=4, shape="poly"),
        ),
        1.0,
    )
    found = [(stage.name, within) for stage, within in map(schedule.stage_at, range(schedule.steps))]
    assert found == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("b", 3)]
    with pytest.raises(IndexError):
        schedule.stage_at(7)


def test_the_rate_is_continuous_where_the_warm_up_ends() -> None:
    schedule = single_stage(720, 3e-3, warm_up_steps=50)
    assert schedule.rate_at(49) == pytest.approx(3e-3)
    assert schedule.rate_at(50) == pytest.approx(3e-3)
    assert schedule.steps == 720


def test_a_warm_up_never_takes_more_than_half_of_a_short_run() -> None:
    assert single_stage(20, 1.0, warm_up_steps=50).stages[0].steps == 10


def test_an_empty_schedule_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one step"):
        Schedule((), 1.0)


def test_a_stage_names_what_it_trains_by_prefix() -> None:
    stage = Stage(name="decoder", steps=1, shape="constant", trained=("decoder.",))
    assert stage.trains("decoder.stages.0.convs.0.conv.weight")
    assert not stage.trains("encoder.stem.convs.0.conv.weight")
