"""The plan of a run: three groups of cases per network that never share a patient, written down first."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3d.errors import CheckpointError
from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.plan import plan_trainings, write_plan

TWELVE = {f"case_{i:02}": f"P{i // 2}" for i in range(12)}
Options = Callable[..., FinetuneConfig]


@given(st.sampled_from(["last", "best"]), st.sampled_from([(0, 0), (3, 0), (0, 2)]), st.integers(0, 3))
def test_no_patient_is_in_two_groups_of_a_training(selection: str, asked: tuple[int, int], seed: int) -> None:
    folds, hold_out = asked
    config = FinetuneConfig(
        dataset=Path("d"),
        output=Path("o"),
        folds=folds,
        hold_out=hold_out,
        selection=selection,  # type: ignore[arg-type]
        seed=seed,
    )
    planned = plan_trainings(config, TWELVE)
    assert [training.name for training in planned] == [f"fold_{n}" for n in range(folds)] + ["final"]
    for training in planned:
        groups = [
            {TWELVE[case] for case in group} for group in (training.training, training.choosing, training.judging)
        ]
        assert sum(map(len, groups)) == len(set.union(*groups))
        assert bool(training.choosing) == (selection == "best")
    judged = [case for training in planned for case in training.judging]
    assert len(judged) == len(set(judged)) == (12 if folds else 2 * hold_out)


def test_the_plan_is_a_file_with_the_names(options: Options, tmp_path: Path) -> None:
    planned = plan_trainings(options(folds=3, selection="best"), TWELVE)
    write_plan(tmp_path, planned)
    written = json.loads((tmp_path / "folds.json").read_text())
    assert list(written) == ["fold_0", "fold_1", "fold_2", "final"]
    assert written["fold_1"] == {
        "training": list(planned[1].training),
        "choosing": list(planned[1].choosing),
        "judging": list(planned[1].judging),
    }


def test_a_score_may_be_added_to_a_run_but_its_cases_may_not_change(options: Options, tmp_path: Path) -> None:
    write_plan(tmp_path, plan_trainings(options(), TWELVE))
    write_plan(tmp_path, plan_trainings(options(folds=3), TWELVE))
    before = (tmp_path / "folds.json").read_text()
    for changed in (options(folds=4), options(hold_out=2), options(folds=3, seed=1)):
        with pytest.raises(CheckpointError, match=r"folds\.json gave (fold_0|final) other cases"):
            write_plan(tmp_path, plan_trainings(changed, TWELVE))
    assert (tmp_path / "folds.json").read_text() == before
