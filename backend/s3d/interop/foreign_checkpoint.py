"""Reads the checkpoint files of nnssl and its relatives, without ever running code from them."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s3d.errors import CheckpointError
from s3d.interop.adaptation_plan import AdaptationPlan, parse_plan
from s3d.interop.key_map import without_aliases

CHECKPOINT_NAME = "checkpoint_final.pth"
PLAN_NAME = "adaptation_plan.json"
_NETWORK_KEYS = ("network_weights", "state_dict", "model_state_dict", "model")
_SPARK_PARTS = ("mask_tokens.", "densify_projs.")


@dataclass(frozen=True)
class ForeignCheckpoint:
    """What a foreign file holds, under this package's names."""

    path: Path
    """The weight file."""
    weights: dict[str, Tensor]
    """float32 on the CPU; mask tokens and densification included where the file has them."""
    differing_aliases: tuple[str, ...]
    """Parameters whose two official copies differ: the mark of nnssl's S3D, where only one of them was trained."""
    plan: AdaptationPlan | None
    """The adaptation plan in or beside the file."""
    trainer: str | None
    """Class name of the official trainer, where the file says it."""
    citation: str
    """What to cite, one per line; empty if the file does not say."""


def read_checkpoint(path: Path) -> ForeignCheckpoint:
    """Read a .pth file, or a folder with checkpoint_final.pth (or a single .pth) and perhaps adaptation_plan.json.

    Accepted: nnssl checkpoints, published ("slimmed") ones, bare state dicts; with DDP or compile prefixes. Raises
    CheckpointError if the file is damaged, holds anything but data, or an unsupported network.
    """
    file = weight_file(path)
    content = _load_data(file)
    beside = _read_json(file.with_name(PLAN_NAME)) if file.with_name(PLAN_NAME).is_file() else {}
    plan = content.get("nnssl_adaptation_plan") or beside
    parsed = parse_plan(plan, str(file)) if plan else None  # refuses other networks before their weights are looked at
    weights, differing = without_aliases(_network_weights(content, file))
    spark = content.get("spark_weights")
    if isinstance(spark, Mapping):
        parts, _ = without_aliases(spark)
        weights.update({name: value for name, value in parts.items() if name.startswith(_SPARK_PARTS)})
    trainer = content.get("trainer_name") or beside.get("trainer_name")
    return ForeignCheckpoint(
        path=file,
        weights={name: _checked(name, value, file) for name, value in weights.items()},
        differing_aliases=tuple(differing),
        plan=parsed,
        trainer=trainer if isinstance(trainer, str) else None,
        citation=_citation(content.get("citations") or beside.get("citations")),
    )


def weight_file(path: Path) -> Path:
    """The file that holds the weights: path itself, or in a folder. Raises CheckpointError if there is none."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"There is no checkpoint at {path}. Check the path.")
    found = [path / CHECKPOINT_NAME] if (path / CHECKPOINT_NAME).is_file() else sorted(path.glob("*.pth"))
    if len(found) != 1:
        raise CheckpointError(
            f"{path} holds no {CHECKPOINT_NAME} and {len(found)} other .pth files. Give the path of one file."
        )
    return found[0]


def _load_data(file: Path) -> Mapping[str, Any]:
    """The object in a torch file, which must be a dictionary of plain data and tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # unusual pickle protocols
            # Mapped into memory: optimiser states, most of such a file, are then never read.
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # a damaged pickle may raise anything
        unwanted = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if unwanted:
            raise CheckpointError(
                f"{file} would run code when read (it needs {unwanted[1]}), so it was not opened. "
                "Ask its author for a file of plain tensors (a state dict)."
            ) from error
        raise CheckpointError(f"{file} is not a whole PyTorch checkpoint. Get it anew.") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not weights by name. Choose another file.")
    return content


def _network_weights(content: Mapping[str, Any], file: Path) -> Mapping[str, Tensor]:
    """The first table of tensors: under one of the usual keys, the whole file, or the S3D one."""
    bare = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    candidates = [*(content.get(key) for key in _NETWORK_KEYS), bare, content.get("spark_weights")]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return candidate
    raise CheckpointError(
        f"{file} holds no table of weights (looked for {', '.join(_NETWORK_KEYS)}, spark_weights or bare tensors). "
        "Choose another file."
    )


def _checked(name: str, value: Tensor, file: Path) -> Tensor:
    value = value.float()
    if not bool(value.isfinite().all()):
        raise CheckpointError(f"{file}: {name} holds NaN or infinite numbers, so the training had failed. Get another.")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}). Mend or remove it.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}, not an adaptation plan. Mend or remove it.")
    return values


def _citation(entries: Any) -> str:
    """nnssl's list of {type, name, apa_citations | bibtex_citations} as lines of text."""
    lines = []
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping):
            texts = entry.get("apa_citations") or entry.get("bibtex_citations") or []
            lines += [
                f"{entry.get('name', 'Citation')}: {text}" for text in ([texts] if isinstance(texts, str) else texts)
            ]
    return "\n".join(lines)
