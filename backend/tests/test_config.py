"""Configurations from JSON: exact, strict, and told in one sentence when wrong."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from s3d.config import from_dict, read_values, to_dict
from s3d.errors import ConfigError
from s3d.finetuning.config import FinetuneConfig
from s3d.models.presets import Architecture
from s3d.pretraining.config import PretrainConfig


@dataclass(frozen=True, kw_only=True)
class Inner:
    number: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    path: Path
    sizes: tuple[int, int, int] = (1, 2, 3)
    many: tuple[float, ...] = ()
    choice: Literal["a", "b"] = "a"
    inner: Inner | None = None
    by_value: dict[int, str] | None = None
    flag: bool = False


FULL = Outer(path=Path("x"), many=(0.5, 1.0), choice="b", inner=Inner(number=3), by_value={2: "two"})


@pytest.mark.parametrize(
    "config",
    [
        FULL,
        PretrainConfig(store=Path("s"), output=Path("o"), architecture=Architecture(), mask_ratio=(0.75,)),
        FinetuneConfig(dataset=Path("d"), output=Path("o"), parent=Path("p"), patch_size=(32, 32, 32)),
    ],
)
def test_json_gives_back_the_same_configuration(config: object, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(to_dict(config)))
    assert type(config)(**read_values(type(config), file)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": "x", "size": [1, 2, 3]}, "unknown key 'size'. Did you mean 'sizes'?"),
        (
            {"path": "x", "zzzzz": 1},
            "unknown key 'zzzzz'. Known keys: by_value, choice, flag, inner, many, path, sizes.",
        ),
        ({}, "path must be given."),
        ({"path": "x", "sizes": [1, 2]}, "sizes is [1, 2]; 3 values are needed."),
        ({"path": "x", "sizes": [1, 2, "3"]}, "sizes is '3'; a whole number is needed."),
        ({"path": "x", "sizes": [1, 2, True]}, "sizes is True; a whole number is needed."),
        ({"path": 3}, "path is 3; a text is needed."),
        ({"path": "x", "many": ["y"]}, "many is 'y'; a number is needed."),
        ({"path": "x", "flag": 1}, "flag is 1; true or false is needed."),
        ({"path": "x", "choice": "c"}, "choice is 'c'; choose one of 'a', 'b'."),
        ({"path": "x", "inner": {"numbr": 1}}, "unknown key 'numbr'. Did you mean 'number'?"),
        ({"path": "x", "inner": {"number": "y"}}, "inner.number is 'y'; a whole number is needed."),
        ({"path": "x", "inner": 3}, "inner is 3; an object is needed."),
        ({"path": "x", "by_value": {"2": 3}}, "by_value.2 is 3; a text is needed."),
        ({"path": "x", "by_value": {"two": "x"}}, "by_value has the key 'two'; a whole number is needed."),
        ({"path": "x", "many": 3}, "many is 3; a list is needed."),
        ({"path": "x", "by_value": []}, "by_value is []; an object is needed."),
    ],
)
def test_what_is_wrong_is_said_with_the_key_and_the_remedy(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values)
    assert message in str(caught.value)


def test_a_file_may_leave_out_what_options_give(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"sizes": [4, 5, 6]}')
    assert read_values(Outer, file) == {"sizes": (4, 5, 6)}


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[1]", "holds a list")])
def test_a_damaged_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_values(Outer, file)
    assert "broken.json" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json cannot be read"):
        read_values(Outer, tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": (100, 160, 160)}, "must be a multiple of 32, at least 64"),
        ({"mask_ratio": (1.5,)}, "between 0 and 1"),
        ({"mask_ratio": (0.1, 0.2, 0.3)}, "one number between 0 and 1, or two"),
        ({"mask_ratio": (0.9, 0.6)}, "the smaller first"),
        ({"name": "../elsewhere"}, "cannot name a model"),
        ({"patch_size": (96, 96, 96), "block_size": 24}, "do not fit the network"),
        ({"block_size": 48}, "blocks of 48 voxels"),
        ({"preset": "huge"}, "no preset 'huge'; choose one of resenc_l"),
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 3, "accumulate": 2}, "choose an accumulate that divides it"),
        ({"learning_rate": -1.0}, "must be a number above 0"),
        ({"learning_rate": float("nan")}, "must be a number above 0"),
        ({"seed": -3}, "seed is -3"),
    ],
)
def test_impossible_pretrainings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PretrainConfig(store=Path("s"), output=Path("o"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transfer": "encoder"}, "needs a parent"),
        ({"folds": 1}, "choose 0 for none, or 2 and more"),
        ({"folds": 3, "hold_out": 2}, "either folds or hold_out"),
        ({"foreground_share": 1.5}, "between 0 and 1"),
        ({"minutes": 0.0}, "must be a number above 0"),
        ({"minutes": float("inf")}, "must be a number above 0"),
        ({"freeze_encoder": True}, "would freeze random ones"),
        ({"preset": "huge"}, "no preset 'huge'"),
    ],
)
def test_impossible_finetunings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig(dataset=Path("d"), output=Path("o"), **options)  # type: ignore[arg-type]


def test_blocks_are_one_bottleneck_voxel_in_the_papers_geometry_and_half_in_the_released_codes() -> None:
    paper = PretrainConfig(store=Path("s"), output=Path("o"))
    released = PretrainConfig(store=Path("s"), output=Path("o"), geometry="nnssl_compatible")
    assert (paper.block, paper.spark.mask_input) == (32, True)
    assert (released.block, released.spark.mask_input) == (16, False)


def test_short_runs_take_the_quick_profile_and_long_ones_the_papers() -> None:
    assert PretrainConfig(store=Path("s"), output=Path("o"), steps=1000).resolved_profile == "quick"
    assert PretrainConfig(store=Path("s"), output=Path("o")).resolved_profile == "paper"
    assert PretrainConfig(store=Path("s"), output=Path("o"), steps=1000, profile="paper").resolved_profile == "paper"
