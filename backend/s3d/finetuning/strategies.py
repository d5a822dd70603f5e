"""How transferred weights are brought to a new task: four independent knobs and a maximum rate (paper Table 3)."""

from dataclasses import dataclass

from s3d.finetuning.config import FinetuneConfig, Transfer
from s3d.training.optimizers import Profile
from s3d.training.schedules import Schedule, Stage, single_stage

DECODER = ("decoder.",)
STEM = ("encoder.stem.",)
EVERYTHING = ("",)

_WARM_UP_STEPS = 12_500
_TRAIN_STEPS = 250_000


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """The four knobs of Table 3, and the stem's."""

    transfer: Transfer = "encoder"
    decoder_warm_up: bool = True
    full_warm_up: bool = True
    freeze_encoder: bool = False
    train_stem_in_decoder_warm_up: bool = False
    """Only for more input channels than the parent had (Table 8)."""
    maximum_rate: float | None = None
    """Unset: the optimiser profile's."""


TABLE_3: dict[int, Strategy] = {
    2: Strategy(transfer="none", decoder_warm_up=False, full_warm_up=False, maximum_rate=1e-2),
    3: Strategy(transfer="encoder_decoder", decoder_warm_up=False, full_warm_up=False, maximum_rate=1e-2),
    4: Strategy(transfer="encoder_decoder", decoder_warm_up=False, full_warm_up=False, maximum_rate=1e-3),
    5: Strategy(transfer="encoder_decoder", decoder_warm_up=False, maximum_rate=1e-2),
    6: Strategy(transfer="encoder_decoder", decoder_warm_up=False, maximum_rate=1e-3),
    7: Strategy(transfer="encoder_decoder", decoder_warm_up=False, maximum_rate=1e-4),
    8: Strategy(decoder_warm_up=False, full_warm_up=False, maximum_rate=1e-2),
    9: Strategy(decoder_warm_up=False, full_warm_up=False, maximum_rate=1e-3),
    10: Strategy(decoder_warm_up=False, maximum_rate=1e-2),
    11: Strategy(decoder_warm_up=False, maximum_rate=1e-3),
    12: Strategy(maximum_rate=1e-2),
    13: Strategy(maximum_rate=1e-3),
    14: Strategy(maximum_rate=1e-4),
}
"""Rows of the paper's Table 3 (row 1 is nnU-Net itself). Rows 8 to 11 are ambiguous in the text we have: one pair of
them keeps the encoder frozen; freeze_encoder gives that reading (method.md section 6.1)."""


def strategy_of(config: FinetuneConfig, parent_kind: str | None, new_channels: bool) -> Strategy:
    """Decide what `auto` and unset options mean. parent_kind: pretrained, segmentation or None; new_channels: whether
    the network has more input channels than the parent."""
    transfer: Transfer
    if parent_kind is None or config.transfer == "none":
        transfer = "none"
    elif config.transfer == "auto":
        transfer = "encoder" if parent_kind == "pretrained" else "encoder_decoder"
    else:
        transfer = config.transfer
    return Strategy(
        transfer=transfer,
        decoder_warm_up=transfer == "encoder" if config.decoder_warm_up is None else config.decoder_warm_up,
        full_warm_up=transfer != "none" if config.full_warm_up is None else config.full_warm_up,
        freeze_encoder=config.freeze_encoder,
        train_stem_in_decoder_warm_up=new_channels and (config.stem == "random" or not config.freeze_stem),
        maximum_rate=config.learning_rate,
    )


def schedule_of(strategy: Strategy, steps: int, profile: Profile) -> Schedule:
    """The stages of a run of `steps` steps: each warm-up keeps its share of the paper's (1/22 with both)."""
    default = profile.scratch_rate if strategy.transfer == "none" else profile.transfer_rate
    maximum = strategy.maximum_rate if strategy.maximum_rate is not None else default
    if not (strategy.decoder_warm_up or strategy.full_warm_up or strategy.freeze_encoder):
        return single_stage(steps, maximum, profile.warm_up_steps)
    head = DECODER + STEM if strategy.train_stem_in_decoder_warm_up else DECODER
    body = head if strategy.freeze_encoder else EVERYTHING
    warm_ups = strategy.decoder_warm_up + strategy.full_warm_up
    each = round(steps * _WARM_UP_STEPS / (_WARM_UP_STEPS * warm_ups + _TRAIN_STEPS))
    first, second = each * strategy.decoder_warm_up, each * strategy.full_warm_up
    if not warm_ups:
        second = min(profile.warm_up_steps, steps // 2)
    stages = (
        Stage(name="decoder warm-up", steps=first, shape="linear_warm_up", trained=head),
        Stage(name="warm-up", steps=second, shape="linear_warm_up", trained=body, fresh_optimizer=True),
        Stage(name="train", steps=steps - first - second, shape="poly", trained=body, fresh_optimizer=not second),
    )
    return Schedule(stages, maximum)
