"""The stages of a fine-tuning against the paper's Table 3 and Table 10."""

from pathlib import Path

import pytest

from s3d.finetuning.config import FinetuneConfig
from s3d.finetuning.strategies import TABLE_3, Strategy, schedule_of, strategy_of
from s3d.training.optimizers import PROFILES

PAPER = PROFILES["paper"]
ENCODER, STEM, DECODER = "encoder.stages.0.blocks.0.conv1.conv.weight", "encoder.stem.convs.0.conv.weight", "decoder.x"


def config(**options: object) -> FinetuneConfig:
    return FinetuneConfig(dataset=Path("d"), output=Path("o"), parent=Path("p"), **options)  # type: ignore[arg-type]


def test_the_default_is_the_papers_best_row() -> None:
    assert strategy_of(config(), "pretrained", new_channels=False) == Strategy()
    schedule = schedule_of(TABLE_3[13], 275_000, PAPER)
    assert [stage.steps for stage in schedule.stages] == [12_500, 12_500, 250_000]  # Table 10
    assert schedule.maximum == 1e-3
    assert schedule_of(Strategy(), 275_000, PAPER) == schedule


def test_the_decoder_warm_up_trains_neither_encoder_nor_stem() -> None:
    first = schedule_of(Strategy(), 275_000, PAPER).stages[0]
    assert first.trains(DECODER)
    assert not first.trains(ENCODER)
    assert not first.trains(STEM)


def test_a_new_stem_may_learn_in_the_decoder_warm_up() -> None:
    strategy = strategy_of(config(freeze_stem=False), "pretrained", new_channels=True)
    first = schedule_of(strategy, 1000, PAPER).stages[0]
    assert first.trains(STEM)
    assert not first.trains(ENCODER)
    frozen = strategy_of(config(), "pretrained", new_channels=True)
    assert not schedule_of(frozen, 1000, PAPER).stages[0].trains(STEM)
    random = strategy_of(config(stem="random"), "pretrained", new_channels=True)
    assert schedule_of(random, 1000, PAPER).stages[0].trains(STEM)


def test_a_frozen_encoder_stays_frozen_to_the_end() -> None:
    schedule = schedule_of(Strategy(freeze_encoder=True), 2200, PAPER)
    assert all(not stage.trains(ENCODER) for stage in schedule.stages)
    assert all(stage.trains(DECODER) for stage in schedule.stages)


@pytest.mark.parametrize("steps", [100, 720, 5000, 275_000])
@pytest.mark.parametrize("row", sorted(TABLE_3))
def test_shorter_runs_keep_the_shares_of_their_warm_ups(row: int, steps: int) -> None:
    strategy = TABLE_3[row]
    schedule = schedule_of(strategy, steps, PAPER)
    assert schedule.steps == steps
    if strategy.decoder_warm_up and strategy.full_warm_up:
        assert schedule.stages[0].steps == schedule.stages[1].steps == round(steps / 22)


def test_scratch_trains_everything_at_once_with_the_higher_rate() -> None:
    strategy = strategy_of(config(), None, new_channels=False)
    schedule = schedule_of(strategy, 1000, PAPER)
    assert strategy.transfer == "none"
    assert schedule.maximum == 1e-2
    assert all(stage.trains(ENCODER) for stage in schedule.stages)


def test_an_already_fine_tuned_parent_gives_everything_and_needs_no_decoder_warm_up() -> None:
    strategy = strategy_of(config(), "segmentation", new_channels=False)
    assert strategy.transfer == "encoder_decoder"
    assert not strategy.decoder_warm_up


@pytest.mark.parametrize("transfer", ["encoder", "encoder_decoder"])
@pytest.mark.parametrize("decoder_warm_up", [True, False])
@pytest.mark.parametrize("full_warm_up", [True, False])
@pytest.mark.parametrize("freeze_encoder", [True, False])
def test_the_four_knobs_are_independent(
    transfer: str, decoder_warm_up: bool, full_warm_up: bool, freeze_encoder: bool
) -> None:
    chosen = config(
        transfer=transfer, decoder_warm_up=decoder_warm_up, full_warm_up=full_warm_up, freeze_encoder=freeze_encoder
    )
    strategy = strategy_of(chosen, "pretrained", new_channels=False)
    assert (strategy.transfer, strategy.decoder_warm_up, strategy.full_warm_up, strategy.freeze_encoder) == (
        transfer,
        decoder_warm_up,
        full_warm_up,
        freeze_encoder,
    )
    assert schedule_of(strategy, 220, PAPER).steps == 220


def test_without_any_other_warm_up_a_frozen_encoder_still_gets_the_profiles() -> None:
    strategy = Strategy(decoder_warm_up=False, full_warm_up=False, freeze_encoder=True)
    schedule = schedule_of(strategy, 400, PROFILES["quick"])
    assert schedule.rate_at(0) == pytest.approx(schedule.maximum / 50)
    assert schedule.steps == 400


def test_momentum_is_forgotten_once_when_the_encoder_is_freed() -> None:
    only_decoder = schedule_of(Strategy(full_warm_up=False), 2100, PAPER)
    both = schedule_of(Strategy(), 2200, PAPER)
    assert [stage.name for stage in only_decoder.stages if stage.steps and stage.fresh_optimizer] == ["train"]
    assert [stage.name for stage in both.stages if stage.steps and stage.fresh_optimizer] == ["warm-up"]
