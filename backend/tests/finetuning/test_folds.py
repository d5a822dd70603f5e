"""Who trains and who judges."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3d.errors import DatasetError
from s3d.finetuning.folds import for_selection, lock_away, make_folds, read_patients

patients_by_case = st.dictionaries(
    st.text("abcdef0123456789", min_size=1, max_size=6), st.sampled_from("PQRSTUVWXY"), min_size=2, max_size=40
).filter(lambda patients: len(set(patients.values())) >= 2)


@given(patients_by_case, st.integers(2, 8), st.integers(0, 3))
def test_every_case_judges_once_and_no_patient_is_on_both_sides(
    patients: dict[str, str], folds: int, seed: int
) -> None:
    made = make_folds(patients, folds, seed)
    judged = [case for fold in made for case in fold.judging]
    assert sorted(judged) == sorted(patients)
    for fold in made:
        assert fold.training
        assert not {patients[c] for c in fold.training} & {patients[c] for c in fold.judging}
        assert sorted(fold.training + fold.judging) == sorted(patients)


def test_under_six_patients_each_is_left_out_once() -> None:
    patients = {f"case{i}": f"case{i}" for i in range(5)}
    assert sorted(fold.judging for fold in make_folds(patients, 3, seed=0)) == [(f"case{i}",) for i in range(5)]


def test_from_six_patients_on_the_number_of_folds_counts() -> None:
    patients = {f"case{i}": f"case{i}" for i in range(12)}
    assert [len(fold.judging) for fold in make_folds(patients, 3, seed=0)] == [4, 4, 4]


@given(patients_by_case, st.integers(0, 3))
def test_locked_cases_are_the_same_for_the_same_seed(patients: dict[str, str], seed: int) -> None:
    fold = lock_away(patients, 1, seed)
    assert fold == lock_away(patients, 1, seed)
    assert len({patients[case] for case in fold.judging}) == 1
    assert fold.training


def test_choosing_a_checkpoint_uses_a_fifth_of_the_training_cases() -> None:
    patients = {f"case{i:02}": f"case{i:02}" for i in range(20)}
    training = tuple(f"case{i:02}" for i in range(10))
    fold = for_selection(training, patients, seed=0)
    assert len(fold.judging) == 2
    assert set(fold.training) | set(fold.judging) == set(training)


def test_locking_everything_away_is_refused() -> None:
    with pytest.raises(DatasetError, match="nothing to train on: there are 2 patients"):
        lock_away({"a": "a", "b": "b"}, 2, seed=0)


def test_one_patient_cannot_be_cross_validated() -> None:
    with pytest.raises(DatasetError, match="at least 2 patients"):
        make_folds({"a": "p", "b": "p"}, 2, seed=0)


def test_patients_are_read_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\na,p\nb,p\nc,q\n")
    assert read_patients(table, ["a", "c"]) == {"a": "p", "c": "q"}
    assert read_patients(None, ["a", "c"]) == {"a": "a", "c": "c"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,patient\na,p\n", "needs a first line"),
        ("case,patient\nz,p\n", "no patient for case 'a'"),
        ("case,patient\na,\n", "no patient for case 'a'"),
        ("case,patient\na\nb,p\n", "no patient for case 'a'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "patients.csv"
    table.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_patients(table, ["a"])


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"patients\.csv cannot be read"):
        read_patients(tmp_path / "patients.csv", ["a"])


@given(patients_by_case, st.integers(2, 8), st.integers(0, 3), st.data())
def test_cases_that_taught_the_parent_train_in_every_fold_and_never_judge(
    patients: dict[str, str], folds: int, seed: int, data: st.DataObject
) -> None:
    learnt = data.draw(st.sets(st.sampled_from(sorted(patients))))
    taught = {patients[case] for case in learnt}
    new = [case for case in sorted(patients) if patients[case] not in taught]
    if not new:
        with pytest.raises(DatasetError, match="have trained the parent already"):
            make_folds(patients, folds, seed, learnt)
        return
    made = make_folds(patients, folds, seed, learnt)
    assert sorted(case for fold in made for case in fold.judging) == new
    assert all(set(learnt) <= set(fold.training) for fold in made)


def test_locked_cases_are_new_to_the_parent() -> None:
    patients = {f"case{i}": f"case{i}" for i in range(5)}
    fold = lock_away(patients, 2, 0, learnt=("case0", "case1", "case2"))
    assert fold.judging == ("case3", "case4")
    with pytest.raises(DatasetError, match="hold_out is 3, but only 2 patients have not trained the parent already"):
        lock_away(patients, 3, 0, learnt=("case0", "case1", "case2"))


def test_one_patient_cannot_choose_its_own_checkpoint() -> None:
    with pytest.raises(DatasetError, match=r"One training patient .* choose selection last"):
        for_selection(("a", "b"), {"a": "p", "b": "p", "c": "q"}, seed=0)


def test_blanks_and_semicolons_of_spreadsheets_do_not_split_a_patient(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case;patient\na;p \nb; p\n")
    assert read_patients(table, ["a", "b"]) == {"a": "p", "b": "p"}


def test_a_case_of_two_patients_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("case,patient\na,p\na,q\n")
    with pytest.raises(DatasetError, match="gives case 'a' to two patients, 'p' and 'q'"):
        read_patients(table, ["a"])
