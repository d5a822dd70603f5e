"""Learning rates as pure functions of the step, and runs made of stages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from s3d.errors import ConfigError

POLY_EXPONENT = 0.9


def linear_warm_up(step: int, steps: int, maximum: float) -> float:
    """Rises to maximum at the last of `steps` steps; step counts from 0 (method.md section 6.2)."""
    return maximum * (step + 1) / steps


def poly(step: int, steps: int, maximum: float) -> float:
    """Falls from maximum towards 0 as (1 - step/steps)^0.9 (nnU-Net, paper section 2)."""
    return float(maximum * (1 - step / steps) ** POLY_EXPONENT)


def constant(step: int, steps: int, maximum: float) -> float:  # noqa: ARG001 - all shapes share one signature
    """Always maximum."""
    return maximum


Shape = Literal["linear_warm_up", "poly", "constant"]
_SHAPES: dict[str, Callable[[int, int, float], float]] = {
    "linear_warm_up": linear_warm_up,
    "poly": poly,
    "constant": constant,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of a run with one schedule and one set of trained parameters."""

    name: str
    """Shown to the user."""
    steps: int
    """Length; 0 leaves the stage out."""
    shape: Shape
    """How the rate moves within the stage."""
    trained: tuple[str, ...] = ("",)
    """Prefixes of parameter names that learn; everything else is frozen. ("",) is the whole network."""
    fresh_optimizer: bool = False
    """Whether the stage forgets momentum gathered before it."""

    def trains(self, parameter_name: str) -> bool:
        """Whether a parameter of that name learns in this stage."""
        return parameter_name.startswith(self.trained)


@dataclass(frozen=True)
class Schedule:
    """A run: stages one after the other, all with the same maximum rate."""

    stages: tuple[Stage, ...]
    maximum: float

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError("A training needs at least one step.")

    @property
    def steps(self) -> int:
        """Length of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[Stage, int]:
        """The stage a step falls into and the step's number within it."""
        within = step
        for stage in self.stages:
            if within < stage.steps:
                return stage, within
            within -= stage.steps
        raise IndexError(f"step {step} lies past the end of the schedule ({self.steps} steps)")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step."""
        stage, within = self.stage_at(step)
        return _SHAPES[stage.shape](within, stage.steps, self.maximum)


def single_stage(steps: int, maximum: float, warm_up_steps: int = 0) -> Schedule:
    """The whole network from the first step: an optional linear warm-up, then poly."""
    warm_up_steps = min(warm_up_steps, steps // 2)
    return Schedule(
        (
            Stage(name="warm-up", steps=warm_up_steps, shape="linear_warm_up"),
            Stage(name="train", steps=steps - warm_up_steps, shape="poly"),
        ),
        maximum,
    )
