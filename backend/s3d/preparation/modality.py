"""What kind of MRI an image is, from the words people and scanners write: file names, BIDS suffixes, descriptions.

Words decide first (this file), scan times only help out (timing.py). What neither tells is `unknown`.
"""

import re

UNKNOWN = "unknown"
NOT_MR = "not MR"
MASK = "mask"
PAPER_MODALITIES = ("T1", "T2", "T1-FLAIR", "T2-FLAIR")
PAPER_EXCLUSIONS = ("ADC", "PHASE", "DWI", "SWI")
"""Dropped wherever name or description speaks of them, whatever the stated modality (method.md 0.7)."""

_START = r"(?<![a-z0-9])(?:ax|axial|sag|cor|tra|2d|3d|ep2d|p|e)?"  # AXT1 and 3DFLAIR are written in one word
_FLAIR = r"(?:flair|tirm|dark ?fluid)"

# Anything that says "no structural image" decides wherever it stands: T1_brainmask is a mask. SWI, adc, pha and dwi are
# the paper's own exclusions (method.md 0.7); the author's script matches them anywhere, which would also drop
# "encephalon" and "headcoil", so here they must begin a word.
_NOT_STRUCTURAL = {
    MASK: r"(?<![a-z])(?:\w*masks?|segs?|segmentations?|labels?(?:tr|ts)?|rois?|gold standard|ground truth"
    r"|multi ?class|manual|dseg|probseg)(?![a-z])",
    "ADC": _START + r"adc",
    "PHASE": _START + r"pha",
    "DWI": _START + r"(?:dwi|dti|diff(?:usion)?(?![a-z])|trace|tensor|noddi|hardi)",
    "SWI": _START + r"(?:swi(?![a-z])|swan(?![a-z])|susceptib)",
    "T2*": _START + r"t2(?:w? ?star|w? ?gre(?![a-z])|w? ?ffe)",
    "BOLD": _START + r"(?:bold|fmri|rest(?:ing)?(?![a-z])|epi(?![a-z])|sbref)",
    "PERFUSION": _START + r"(?:asl(?![a-z])|m0scan|perf|r?cb[vf]|dsc(?![a-z])|dce(?![a-z])|mtt(?![a-z])|ttp(?![a-z]))",
    "ANGIO": _START + r"(?:mra(?![a-z])|tof(?![a-z])|angio|mip(?![a-z]))",
    "MAP": _START + r"(?:[tr][12](?:star)? ?(?:map|rho)|r2star|[tr][12] map|fieldmap|magnitude|mtr|mts)",
    "LOCALIZER": _START + r"(?:loc(?:ali[sz]er)?(?![a-z])|scout|survey|topogram)",
    "CT": _START + r"ct(?![a-z0-9])",
}
_STRUCTURAL = {
    "T1-FLAIR": _START + rf"t1w? (?:\w{{2,4}} )?{_FLAIR}|{_FLAIR} t1(?![0-9])",
    "T2-FLAIR": _START + rf"(?:t2w? (?:\w+ ){{0,3}})?{_FLAIR}",
    "T1": _START + r"(?:t1(?![0-9])|(?:me)?mp ?2?rage|unit1|tfl(?![a-z])|bravo|ir ?f?spgr|f?spgr|inplane ?t1|mdeft)",
    "T2": _START + r"(?:t2(?![0-9])|inplane ?t2)",
    "PD": _START + r"(?:pdw?(?![a-z])|proton density|pdt2)",
}
KNOWN_MODALITIES = (*_STRUCTURAL, *_NOT_STRUCTURAL, NOT_MR, UNKNOWN)

# Names that say what the image was laid onto, or who and when, not what it shows.
_ENTITIES = re.compile(r"(?<![a-z])(?:sub|ses|run|space)-[a-z0-9]+", re.IGNORECASE)
_LAID_ONTO = re.compile(
    r"(?<![a-z])(?:(?:co)?reg(?:istered)?|aligned|warped|resampled|normali[sz]ed) ?(?:to|2) ?\w+|(?<![a-z])in \w+ space"
)


def modality_of(text: str) -> str:
    """The modality that a file name, suffix or description speaks of, one of KNOWN_MODALITIES.

    Among structural words the first wins (T1_brain_likeFLAIR is T1), a longer one where two start together.
    """
    words = plain_words(text)
    for name, pattern in _NOT_STRUCTURAL.items():
        if re.search(pattern, words):
            return name
    found = [(match.start(), -match.end(), name) for name, match in _structural_matches(words)]
    return min(found)[2] if found else UNKNOWN


def canonical_modality(name: str) -> str | None:
    """A modality as a person names it (T1w, t2_flair, MPRAGE) in the catalogue's spelling; None if unheard of."""
    exact = {known.casefold(): known for known in KNOWN_MODALITIES}
    if name.casefold() in exact:
        return exact[name.casefold()]
    found = modality_of(name)
    return None if found == UNKNOWN else found


def without_modality(text: str) -> str:
    """text as plain words with those that name a structural modality taken out (to look for a patient number)."""
    words = plain_words(text)
    for pattern in _STRUCTURAL.values():
        words = re.sub(pattern, " ", words)
    return words.strip()


def plain_words(text: str) -> str:
    """Lower case, words parted by single spaces, also where case changes (SagT1); misleading phrases taken out."""
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", _ENTITIES.sub(" ", text.replace("2*", "2star")))
    words = re.sub(r"[^a-z0-9]+", " ", parted.lower()).strip()
    return _LAID_ONTO.sub(" ", words)


def _structural_matches(words: str) -> list[tuple[str, re.Match[str]]]:
    matches = [(name, re.search(pattern, words)) for name, pattern in _STRUCTURAL.items()]
    return [(name, match) for name, match in matches if match]
