import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from s3d.data import array_files
from s3d.data.case_record import StoreDescription
from s3d.data.case_store import CaseStore
from s3d.data.preprocessing import PreprocessingPlan
from s3d.errors import DatasetError, StorageError

SHAPE = (20, 40, 36)
OUTSIDE = ((-3, 5), (30, 44), (10, 20))
PLAN = PreprocessingPlan(orientation="LPS", spacing_mm=(2.0, 1.0, 1.0), normalization="zscore")


def make_image(seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((channels, *SHAPE)).astype(np.float32)


def make_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    labels[2:9, 3:12, 4:20] = 17
    labels[15, :3, 0] = -100_000
    labels[10:12, 35:, 11:15] = 1035
    return labels


@pytest.fixture
def store(tmp_path: Path) -> CaseStore:
    made = CaseStore.create(tmp_path / "store", StoreDescription(source="made up", plan=PLAN, ignore_value=9))
    made.write("case_1", make_image(1), make_labels(), properties={"spacing_mm": [1.0, 2.0, 3.0]})
    made.write("case_10", make_image(10, channels=2), excluded=make_image(3)[0] > 0, anatomy=make_image(4)[0] > 1)
    return made


def test_what_was_written_is_read_again_by_another_reader(store: CaseStore) -> None:
    reader = CaseStore.open(store.folder, plan=PLAN, threads=2)
    assert reader.names() == ("case_1", "case_10")
    assert reader.shape("case_1") == SHAPE
    assert reader.properties("case_1") == {"spacing_mm": [1.0, 2.0, 3.0]}
    assert reader.description == store.description
    assert reader.plan == PLAN
    np.testing.assert_array_equal(reader.read_image("case_1"), make_image(1))
    np.testing.assert_array_equal(reader.read_image("case_10"), make_image(10, channels=2))
    np.testing.assert_array_equal(reader.read_labels("case_1"), make_labels())
    np.testing.assert_array_equal(reader.read_excluded("case_10"), make_image(3)[0] > 0)
    np.testing.assert_array_equal(reader.read_anatomy("case_10"), make_image(4)[0] > 1)
    assert {value: len(found) for value, found in reader.foreground("case_1").items()} == {
        -100_000: 3,
        17: 1008,
        1035: 40,
    }
    assert reader.foreground("case_10") == {}


def test_outside_the_volume_a_box_is_padded(store: CaseStore) -> None:
    image, labels = store.read_image("case_10", OUTSIDE), store.read_labels("case_1", OUTSIDE)
    assert image.shape == (2, 8, 14, 10)
    np.testing.assert_array_equal(image[:, 3:, :10], make_image(10, channels=2)[:, :5, 30:, 10:20])
    np.testing.assert_array_equal(labels[3:, :10], make_labels()[:5, 30:, 10:20])
    assert not image[:, :3].any()
    assert not labels[:3].any()
    assert not store.read_excluded("case_10", OUTSIDE)[:3].any()
    assert not store.read_anatomy("case_10", OUTSIDE)[:3].any()


def test_labels_may_be_padded_with_the_ignore_value(store: CaseStore) -> None:
    labels = store.read_labels("case_1", OUTSIDE, pad_value=9)
    assert (labels[:3] == 9).all()
    assert (labels[:, 10:] == 9).all()
    assert (labels[3:, :10] != 9).all()


def test_a_case_without_masks_excludes_nothing(store: CaseStore) -> None:
    assert store.read_excluded("case_1").shape == SHAPE
    assert store.read_anatomy("case_1", OUTSIDE).shape == (8, 14, 10)
    assert not store.read_excluded("case_1").any()


def test_labels_that_were_never_given_are_refused(store: CaseStore) -> None:
    with pytest.raises(DatasetError, match=r"case_10.* has no labels"):
        store.read_labels("case_10")


def test_the_fingerprint_follows_names_and_voxels_only(store: CaseStore, tmp_path: Path) -> None:
    copy = CaseStore.create(tmp_path / "copy", threads=2)
    copy.write("case_10", make_image(10, channels=2), excluded=make_image(3)[0] > 0, anatomy=make_image(4)[0] > 1)
    copy.write("case_1", make_image(1), make_labels(), properties={"another": "property"})
    assert copy.fingerprint() == store.fingerprint()
    assert copy.fingerprint(["case_1"]) != store.fingerprint()
    changed = make_labels()
    changed[0, 0, 0] = 1
    copy.write("case_1", make_image(1), changed)
    assert copy.fingerprint() != store.fingerprint()
    copy.write("case_1", make_image(1), make_labels())
    copy.write("case_2", make_image(1), make_labels())
    copy.remove("case_1")
    assert copy.fingerprint() != store.fingerprint()


def test_a_replaced_case_keeps_nothing_of_the_old_one(store: CaseStore) -> None:
    store.write("case_1", make_image(5))
    reader = CaseStore.open(store.folder)
    np.testing.assert_array_equal(reader.read_image("case_1"), make_image(5))
    assert reader.foreground("case_1") == {}
    with pytest.raises(DatasetError, match="has no labels"):
        reader.read_labels("case_1")


def test_a_removed_case_is_gone(store: CaseStore) -> None:
    store.remove("case_1")
    assert store.names() == ("case_10",)
    with pytest.raises(DatasetError, match="no whole case 'case_1'"):
        store.shape("case_1")


def test_writing_that_fails_leaves_no_case(store: CaseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(StorageError, match="disk is full"):
        store.write("case_2", make_image(2))
    assert store.names() == ("case_1", "case_10")
    assert not [path for path in (store.folder / "cases").iterdir() if path.name.startswith(".")]


KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
import numpy as np
from s3d.data.case_store import CaseStore

def write(store, name, number):
    image = np.full((1, 40, 40, 40), number, np.float32)
    store.write(name, image, labels=image[0].astype(np.int32))

def kill_at(countdown):
    def counted(function):
        def call(*arguments):
            nonlocal countdown
            if countdown == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            countdown -= 1
            return function(*arguments)
        return call
    os.fsync, Path.replace, Path.write_bytes = map(counted, (os.fsync, Path.replace, Path.write_bytes))

store = CaseStore.create(Path(sys.argv[1]))
for step in range(100):
    if "case" not in store.names():
        write(store, "case", step)
    child = os.fork()
    if child == 0:
        kill_at(step)
        write(store, "case", step + 1)
        os._exit(0)
    finished = os.waitpid(child, 0)[1] == 0
    reader = CaseStore.open(store.folder) if store.names() else store
    for name in reader.names():
        reader.check(name)
        labels = reader.read_labels(name)
        assert (labels == labels[0, 0, 0]).all() and (reader.read_image(name) == labels).all()
    if finished:
        assert (reader.read_image("case") == step + 1).all()
        print(step)
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_writer_killed_at_any_step_leaves_only_whole_cases(tmp_path: Path) -> None:
    """SIGKILL before each write, sync and rename of replacing a case, one after the other."""
    command = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path / "store")]
    steps = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True).stdout
    assert 8 <= int(steps) < 99


def test_threads_may_write_different_cases_side_by_side(store: CaseStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.write(f"t{number}", make_image(number), make_labels()), range(12)))
    reader = CaseStore.open(store.folder)
    for number in range(12):
        np.testing.assert_array_equal(reader.read_image(f"t{number}"), make_image(number))
        np.testing.assert_array_equal(reader.read_labels(f"t{number}"), make_labels())


def test_a_truncated_array_is_refused_with_a_remedy(store: CaseStore) -> None:
    path = store.folder / "cases" / "case_1" / "image.b2nd"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DatasetError, match=r"image\.b2nd is missing or damaged \(\d+ of \d+ bytes\).*preprocess"):
        store.read_image("case_1", OUTSIDE)
    with pytest.raises(DatasetError, match="missing or damaged"):
        store.check("case_1")
    store.check("case_10")


@pytest.mark.parametrize("kind", ["image", "labels"])
def test_a_single_flipped_bit_is_refused_at_the_first_read(store: CaseStore, kind: str) -> None:
    path = store.folder / "cases" / "case_1" / f"{kind}.b2nd"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    reader = CaseStore.open(store.folder)
    with pytest.raises(DatasetError, match=rf"{kind}\.b2nd is missing or damaged.*not hold.*preprocess the case again"):
        reader.read_image("case_1", OUTSIDE) if kind == "image" else reader.read_labels("case_1", OUTSIDE)
    with pytest.raises(DatasetError, match="damaged"):
        reader.check("case_1")


def test_an_array_is_hashed_once_per_reader_and_again_when_replaced(
    store: CaseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = array_files.file_sha256
    monkeypatch.setattr(array_files, "file_sha256", lambda path: (hashed.append(path.name), real(path))[1])
    reader = CaseStore.open(store.folder)
    for _ in range(3):
        reader.read_image("case_1", OUTSIDE)
        reader.read_labels("case_1")
    assert hashed == ["image.b2nd", "labels.b2nd"]
    reader.write("case_1", make_image(5))
    hashed.clear()
    reader.read_image("case_1")
    assert hashed == ["image.b2nd"]


def test_a_missing_array_is_refused(store: CaseStore) -> None:
    (store.folder / "cases" / "case_1" / "labels.b2nd").unlink()
    with pytest.raises(DatasetError, match=r"labels\.b2nd is missing or damaged \(0 of"):
        store.read_labels("case_1")


@pytest.mark.parametrize("text", ["", "[]", '{"shape": 3}', '{"foreground": {"x": 1}}'])
def test_a_damaged_case_record_is_refused(store: CaseStore, text: str) -> None:
    (store.folder / "cases" / "case_1" / "case.json").write_text(text)
    with pytest.raises(DatasetError, match=r"case\.json is damaged .* preprocess the case again"):
        CaseStore.open(store.folder).shape("case_1")


def test_an_empty_store_is_refused_by_open_but_not_by_create(tmp_path: Path) -> None:
    CaseStore.create(tmp_path / "store")
    CaseStore.create(tmp_path / "store")
    with pytest.raises(DatasetError, match="is empty"):
        CaseStore.open(tmp_path / "store")


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is not a case store"):
        CaseStore.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"schema_version": 1}', "schema 1; this program reads schema 2"),
        ("[]", "schema None"),
        ('{"schema_version": 2, "plan": {"spacing_mm": "x"}}', "damaged"),
        ('{"schema_version": 2, "labels": {"a": "x"}}', "damaged"),
    ],
)
def test_a_wrong_store_description_is_refused(store: CaseStore, text: str, message: str) -> None:
    (store.folder / "store.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        CaseStore.open(store.folder)


def test_another_plan_than_the_stores_is_refused(store: CaseStore) -> None:
    other = PreprocessingPlan(orientation="as_stored", spacing_mm=(2.0, 1.0, 1.0), normalization="zscore")
    with pytest.raises(DatasetError, match=r"made with orientation 'LPS', but 'as_stored' is asked"):
        CaseStore.open(store.folder, plan=other)
    with pytest.raises(DatasetError, match="orientation"):
        CaseStore.create(store.folder, StoreDescription(source="made up", plan=other))


@pytest.mark.parametrize("changed", [{"source": "another set"}, {"channels": ("T1",)}])
def test_another_dataset_cannot_join_a_store(store: CaseStore, changed: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match=f"made with {next(iter(changed))}"):
        CaseStore.create(store.folder, StoreDescription(**{"source": "made up", "plan": PLAN, **changed}))


def test_labels_may_gain_names_between_two_runs(store: CaseStore) -> None:
    again = CaseStore.create(store.folder, StoreDescription(source="made up", plan=PLAN, labels={"new": 5}))
    assert again.names() == store.names()
    assert json.loads((store.folder / "store.json").read_text())["labels"] == {"new": 5}


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\\b", "a:b", "line\nbreak",
                                  "dot.", "space ", "CON", "nul.nii", "Com1", "x" * 201])  # fmt: skip
def test_a_name_that_cannot_be_a_folder_is_refused(store: CaseStore, name: str) -> None:
    with pytest.raises(DatasetError, match="cannot name a case"):
        store.write(name, make_image())


def test_two_names_that_differ_by_case_only_are_refused(store: CaseStore) -> None:
    """On Windows and macOS the second would replace the first."""
    with pytest.raises(DatasetError, match=r"'CASE_1' and 'case_1' differ only by upper and lower case"):
        store.write("CASE_1", make_image())
    store.write("case_1", make_image())
    store.remove("case_1")
    store.write("CASE_1", make_image())


def test_what_killed_writers_left_is_removed_only_when_asked_for(store: CaseStore) -> None:
    for name in (".writing-abc", ".removing-abc"):
        (store.folder / "cases" / name / "case_7").mkdir(parents=True)
    again = CaseStore.create(store.folder, store.description)
    assert len(list((store.folder / "cases").iterdir())) == 4
    again.remove_leftovers()
    assert sorted(path.name for path in (store.folder / "cases").iterdir()) == ["case_1", "case_10"]


def test_arrays_that_do_not_match_are_refused(store: CaseStore) -> None:
    with pytest.raises(DatasetError, match=r"labels has shape \(20, 40, 35\)"):
        store.write("case_2", make_image(), make_labels()[:, :, :-1])
    with_channels = CaseStore.create(store.folder.parent / "other", StoreDescription(channels=("T1", "T2")))
    with pytest.raises(DatasetError, match=r"has 1 channels; .* holds 2 \(T1, T2\)"):
        with_channels.write("case_2", make_image())
