import subprocess
import sys
from pathlib import Path

import pytest

from s3d.config import from_dict, to_dict
from s3d.errors import ConfigError
from s3d.evaluation.config import EvaluateConfig

FOLDERS = {"predictions": "predicted", "references": "true", "output": "scores"}


def test_a_config_survives_json():
    config = from_dict(EvaluateConfig, {**FOLDERS, "labels": {"head": 1}, "label_tolerances_mm": {"head": 2}})
    assert config.predictions == Path("predicted")
    assert config.label_tolerances_mm == {"head": 2.0}
    assert from_dict(EvaluateConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tolerance_mm": 0}, "tolerance_mm is 0.0; it must be above 0 mm"),
        ({"label_tolerances_mm": {"head": -1}}, "head is -1.0"),
        ({"tolerance_mm": float("nan")}, "tolerance_mm is nan"),
        ({"labels": {}}, "labels is empty"),
        ({"labels": {"head": 0}}, "above 0"),
        ({"labels": {"head": 1, "tail": 1}}, "its own value"),
        ({"labels": {"head": 1}, "ignore_value": 1}, "also a label"),
        ({"pictures": -1}, "pictures is -1"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(EvaluateConfig, {**FOLDERS, **values})


def test_the_config_imports_neither_torch_nor_monai_nor_numpy():
    code = "import sys, s3d.evaluation.config; sys.exit(not sys.modules.keys().isdisjoint({'torch', 'monai', 'numpy'}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
