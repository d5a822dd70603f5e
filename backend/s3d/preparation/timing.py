"""What repetition, echo and inversion time tell about an image's contrast, where its name tells nothing.

Deliberately modest: only combinations that textbooks agree on; gradient echoes without inversion stay unknown, because
T1 FLASH, angiography and localisers share their times.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s3d.preparation.modality import UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Scan times in milliseconds, None where not known; gradient_echo is False for spin echoes, None if not known."""

    repetition_ms: float | None = None
    echo_ms: float | None = None
    inversion_ms: float | None = None
    gradient_echo: bool | None = None


def timing_from_sidecar(sidecar: Mapping[str, Any]) -> Timing:
    """Timing of a BIDS sidecar. BIDS says seconds, some data sets (ISLES) hold milliseconds: told apart by size."""
    return Timing(
        repetition_ms=_milliseconds(sidecar.get("RepetitionTime"), largest_seconds=100),
        echo_ms=_milliseconds(sidecar.get("EchoTime"), largest_seconds=1),
        inversion_ms=_milliseconds(sidecar.get("InversionTime"), largest_seconds=20),
        gradient_echo=_echo_kind(str(sidecar.get("ScanningSequence", "")), gradient="GR", spin="SE|IR"),
    )


def timing_from_dicom(tags: Mapping[str, str]) -> Timing:
    """Timing of a DicomSeries' tags: texts, in milliseconds; the sequence's name (*tfl3d1, *se2d1) tells the echo."""
    return Timing(
        repetition_ms=_number(tags.get("repetition_time_ms")),
        echo_ms=_number(tags.get("echo_time_ms")),
        inversion_ms=_number(tags.get("inversion_time_ms")),
        gradient_echo=_echo_kind(tags.get("sequence", ""), gradient="FL|GR|GE|FFE|SPGR|FSP", spin="SE|IR|SPC"),
    )


def modality_from_timing(timing: Timing) -> str:
    """T1, T2, PD, T1-FLAIR, T2-FLAIR or unknown."""
    repetition, echo, inversion = timing.repetition_ms, timing.echo_ms, timing.inversion_ms
    if echo is None or repetition is None:
        return UNKNOWN
    if inversion:
        return _inversion_recovery(echo, inversion, timing.gradient_echo)
    if repetition >= 2000 and echo >= 70:
        return "T2"
    if timing.gradient_echo is not False:
        return UNKNOWN
    if repetition <= 900 and echo <= 30:
        return "T1"
    return "PD" if repetition >= 2000 and echo <= 40 else UNKNOWN


def refined_modality(named: str, timing: Timing) -> str:
    """The modality by name, completed by the times: unknown ones are looked up, a bare FLAIR may be a T1-FLAIR."""
    by_times = modality_from_timing(timing)
    if named == UNKNOWN or (named == "T2-FLAIR" and by_times == "T1-FLAIR"):
        return by_times
    return named


def _inversion_recovery(echo_ms: float, inversion_ms: float, gradient_echo: bool | None) -> str:
    if gradient_echo or echo_ms < 7:
        return "T1"  # MPRAGE and its relatives
    if inversion_ms >= 1500 and echo_ms >= 60:
        return "T2-FLAIR"
    return "T1-FLAIR" if 400 <= inversion_ms < 1500 and echo_ms < 60 else UNKNOWN


def _milliseconds(value: Any, largest_seconds: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if value > largest_seconds else float(value) * 1000


def _number(text: str | None) -> float | None:
    """The first number of a DICOM decimal string; several are parted by backslashes."""
    try:
        return float((text or "").split("\\")[0])
    except ValueError:
        return None


def _echo_kind(text: str, gradient: str, spin: str) -> bool | None:
    """True for a gradient echo, False for a spin echo, None if the text holds neither's marks."""
    if re.search(gradient, text.upper()):
        return True
    return False if re.search(spin, text.upper()) else None
