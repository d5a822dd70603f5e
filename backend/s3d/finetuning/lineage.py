"""Which images have taught a model with their labels: going on from that model, they may train but never judge.

A model's card carries no names; it lists a hash of each image file, so that a case is known again under any name.
"""

import hashlib
from collections.abc import Iterable, Mapping

from s3d.bundle import BundleDescription
from s3d.data.dataset import LabelledCase

LEARNT_IMAGES = "learnt_images"
_HASH_CHARACTERS = 16


def image_hash(case: LabelledCase) -> str:
    """Start of the sha256 of the case's first image file."""
    with case.images[0].open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_HASH_CHARACTERS]


def learnt_by(ancestor: BundleDescription | None) -> frozenset[str]:
    """Hashes of the images that taught a model or its ancestors; none where the card does not tell."""
    return frozenset() if ancestor is None else frozenset(ancestor.training.get(LEARNT_IMAGES, ()))


def says_what_it_learnt(ancestor: BundleDescription | None) -> bool:
    """Whether the card of a model can vouch for scores of its descendants; a pre-trained one saw no labels."""
    return ancestor is None or ancestor.kind == "pretrained" or LEARNT_IMAGES in ancestor.training


def learnt_images(ancestor: BundleDescription | None, hashes: Mapping[str, str], cases: Iterable[str]) -> list[str]:
    """What goes on the card of a model that learnt from these cases: hashes by case of them, and its ancestors'."""
    return sorted(learnt_by(ancestor) | {hashes[case] for case in cases})
