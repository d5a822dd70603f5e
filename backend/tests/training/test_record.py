"""Model cards travel: they tell how a model was made, not where and from whom."""

import json
from pathlib import Path

from s3d.finetuning.config import FinetuneConfig
from s3d.training.record import options_on_card, versions


def test_a_card_holds_the_options_but_no_path_and_no_case() -> None:
    config = FinetuneConfig(
        dataset=Path("/home/anna/cases"), output=Path("/home/anna/run"), cases=("Miller_John",), steps=7, folds=3
    )
    options = options_on_card(config)
    assert (options["steps"], options["folds"]) == (7, 3)
    assert "anna" not in json.dumps(options)
    assert "Miller" not in json.dumps(options)


def test_versions_name_what_shapes_the_numbers() -> None:
    assert versions()["torch"].startswith("2.")
    assert "not installed" not in versions().values()
