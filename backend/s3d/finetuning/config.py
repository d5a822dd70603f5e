"""Options of the verb `finetune`. Torch-free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s3d.bundle import check_name
from s3d.errors import ConfigError
from s3d.models.presets import Architecture, PresetName, preset
from s3d.training.config import TrainingConfig, check_positive

Transfer = Literal["none", "encoder", "encoder_decoder"]


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """One fine-tuning, or a training from scratch. Defaults: the paper's best row (Table 3; method.md section 6.1)."""

    dataset: Path
    """Labelled cases: nnU-Net raw or MSD layout."""
    output: Path
    """Folder of the run: case store, checkpoints, events, scores, bundle. An unfinished run there goes on."""
    parent: Path | None = None
    """Bundle to start from, pre-trained or already fine-tuned; unset trains from scratch."""
    name: str = "s3d-finetuned"
    """Name of the bundle, NAME.s3dmodel in the output folder."""
    cases: tuple[str, ...] = ()
    """Only these cases of the dataset; empty takes all."""
    batch_size: int = 2
    """Samples per step (nnU-Net's; the paper is silent)."""
    steps: int = 275_000
    """Steps of all stages together; warm-ups keep their share when it is smaller (paper: 12.5k + 12.5k + 250k)."""
    minutes: float | None = None
    """Time of one training instead of a number of steps; the speed is measured first, steps is the upper limit."""
    preset: PresetName = "resenc_l"
    """Network for training from scratch: resenc_l is the paper's (for a GPU), medium and small suit workstations, tiny
    is for first tries. A parent brings its own."""
    architecture: Architecture | None = None
    """Full shape of the network for training from scratch (JSON file only)."""
    patch_size: tuple[int, int, int] | None = None
    """Training patch (z, y, x) in voxels; unset, the parent's, or from scratch 160 cut down to the median case."""
    spacing_mm: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
    """Working grid (z, y, x) when training from scratch (paper: 1 mm); a parent brings its own."""
    transfer: Literal["auto", "none", "encoder", "encoder_decoder"] = "auto"
    """What the parent gives. auto: the encoder of a pre-trained one, everything of a fine-tuned one."""
    decoder_warm_up: bool | None = None
    """A first stage in which encoder and stem stay frozen; unset, on where only the encoder is transferred."""
    full_warm_up: bool | None = None
    """A stage in which the rate of the whole network rises; unset, on where anything is transferred."""
    freeze_encoder: bool = False
    """Keep the encoder frozen to the end."""
    stem: Literal["replicate", "replicate_divided", "random"] = "replicate"
    """Input weights for more channels than the parent had: its trained ones per channel, the same over the number of
    channels, or new ones (Table 8: the authors' choice is replicated and frozen; its four variants differ by less than
    their spread over folds)."""
    freeze_stem: bool = True
    """Whether the stem of a multi-channel network stays frozen in the decoder warm-up."""
    foreground_share: float = 0.33
    """Share of patches centred on a labelled voxel (method.md section 6.4)."""
    augmentation: Literal["auto", "nnunet", "quick", "none"] = "auto"
    """nnunet: the full list (method.md section 6.4); quick: the measured recipe for short runs; auto: by profile."""
    folds: int = 0
    """Cross-validation folds for an honest score; under 6 cases each case (or patient) is a fold. 0: none."""
    hold_out: int = 0
    """Cases (or patients) locked away, never trained on, that give the score; needs folds 0."""
    patients: Path | None = None
    """CSV with columns case,patient: cases of one patient never stand on both sides. Unset: each case is a patient."""
    selection: Literal["last", "best"] = "last"
    """Result: the last weights, or those best on a fifth of the cases, which then are neither trained on nor scored."""
    tolerance_mm: float = 1.0
    """Tolerance of NSD."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name)
        if self.parent is None and self.transfer not in ("auto", "none"):
            raise ConfigError(f"transfer {self.transfer!r} needs a parent; name a bundle with `parent`.")
        if self.folds < 0 or self.folds == 1:
            raise ConfigError(f"folds is {self.folds}; choose 0 for none, or 2 and more.")
        if self.hold_out < 0:
            raise ConfigError(f"hold_out is {self.hold_out}; it must be 0 or more.")
        if self.folds and self.hold_out:
            raise ConfigError("Choose either folds or hold_out; both give a score.")
        if not 0 <= self.foreground_share <= 1:
            raise ConfigError(f"foreground_share is {self.foreground_share}; it must lie between 0 and 1.")
        check_positive("minutes", self.minutes)
        check_positive("tolerance_mm", self.tolerance_mm)
        if self.freeze_encoder and (self.parent is None or self.transfer == "none"):
            raise ConfigError("freeze_encoder without transferred weights would freeze random ones; name a parent.")
        if self.patch_size is not None and min(self.patch_size) < 1:
            raise ConfigError(f"patch_size is {self.patch_size}; give three sizes of at least 1 voxel.")
        if self.parent is None:
            self.scratch_network  # noqa: B018 - an unknown preset is refused before any work

    @property
    def keeps_events(self) -> bool:
        """The command line keeps events.jsonl in the output folder."""
        return True

    @property
    def scratch_network(self) -> Architecture:
        """The network's shape when there is no parent."""
        return self.architecture if self.architecture is not None else preset(self.preset)
