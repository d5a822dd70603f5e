"""A complete, atomic record of a run: killed at any moment and resumed, it ends as if it had never stopped.

One safetensors file; scalars are JSON in its metadata. No random state is kept, because every random choice of a run is
a function of the seed and of a step's or sample's number.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s3d.atomic_files import atomic_path, remove_leftovers
from s3d.errors import CheckpointError
from s3d.training.state import TrainingState

_SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Where a run's state lies; identity is what must not change between start and resume."""

    path: Path
    identity: dict[str, Any]

    def save(self, state: TrainingState) -> None:
        """Write the state under a temporary name, sync, rename. Raises StorageError."""
        tensors, scalars = _flatten(state)
        record = {"schema": _SCHEMA, "identity": self.identity, "scalars": scalars}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata={"s3d": json.dumps(record)})

    def restore(self, state: TrainingState) -> bool:
        """Put a saved state into a freshly started one; False if there is none.

        Raises CheckpointError if the file is damaged or belongs to a run with other options.
        """
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                record = json.loads(file.metadata()["s3d"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} is not a readable checkpoint ({error}). Delete it to start anew."
            ) from error
        self._check(record)
        _unflatten(state, tensors, record["scalars"])
        return True

    def clean_up(self) -> None:
        """Remove half-written checkpoints that a killed run left beside this one; each is as large as a whole one."""
        remove_leftovers(self.path.parent)

    def _check(self, record: dict[str, Any]) -> None:
        if record.get("schema") != _SCHEMA:
            raise CheckpointError(
                f"{self.path} was written by another version of this program. Delete it to start anew."
            )
        saved = record["identity"]
        wanted = json.loads(json.dumps(self.identity))
        changed = sorted(key for key in saved.keys() | wanted.keys() if saved.get(key) != wanted.get(key))
        if changed:
            key = changed[0]
            raise CheckpointError(
                f"{self.path} belongs to a run with other options: {key} was {saved.get(key)!r}, now "
                f"{wanted.get(key)!r}. Choose another output folder, or the old options to go on with that run."
            )


def _flatten(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in state.model.named_parameters()}
    names = {id(value): name for name, value in state.model.named_parameters()}
    optimizer_scalars: dict[str, dict[str, Any]] = {}
    for parameter, entries in state.optimizer.state.items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{key}.{names[id(parameter)]}"] = value
            else:
                optimizer_scalars.setdefault(names[id(parameter)], {})[key] = value
    scalars: dict[str, Any] = {
        "step": state.step,
        "skipped_in_a_row": state.skipped_in_a_row,
        "best_score": state.best_score,
        "scaler": state.scaler.state_dict(),
        "optimizer": optimizer_scalars,
    }
    if state.average is not None:
        values, scalars["average_updates"] = state.average.state()
        tensors |= {f"average.{name}": value for name, value in values.items()}
    if state.best_weights is not None:
        tensors |= {f"best.{name}": value for name, value in state.best_weights.items()}
    return {name: value.detach().contiguous() for name, value in tensors.items()}, scalars


def _unflatten(state: TrainingState, tensors: dict[str, Tensor], scalars: dict[str, Any]) -> None:
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
    for name, value in tensors.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = value
    parameters = dict(state.model.named_parameters())
    if _shapes(parameters) != _shapes(groups["model"]):
        raise CheckpointError("The checkpoint's network is not this one. Choose another output folder.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(groups["model"][name])
    for combined, value in groups["optimizer"].items():
        key, _, name = combined.partition(".")
        on_host = key == "step"  # torch keeps AdamW's step counter on the CPU
        state.optimizer.state[parameters[name]][key] = value if on_host else value.to(parameters[name].device)
    for name, entries in scalars["optimizer"].items():
        state.optimizer.state[parameters[name]].update(entries)
    if state.average is not None:
        state.average.restore(groups["average"], scalars["average_updates"])
    state.scaler.load_state_dict(scalars["scaler"]) if state.scaler.is_enabled() else None
    state.step = scalars["step"]
    state.skipped_in_a_row = scalars["skipped_in_a_row"]
    state.best_score = scalars["best_score"]
    state.best_weights = groups["best"] or None


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}
