import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3d.data.left_right import left_right_pairs, mirror_axes_allowed

LOOKS_SIDED = ["bright lesion", "cleft", "Bright", "uncleft", "lesion", "rim", "leftover", "alright", "edema", "Liver",
               "ventricle", "Lesion", "Rim", "interthalamic cleft", "upright"]  # fmt: skip

names = st.lists(st.text(max_size=12), max_size=8)
stems = st.lists(st.sampled_from(["Putamen", "Amygdala", "Vessel 1", "Vessel 2", "white_matter"]), unique=True)
patterns = st.sampled_from(["{side} {stem}", "{stem}_{side}", "ctx-{side}-{stem}", "{stem} ({side})"])
side_words = st.sampled_from([("Left", "Right"), ("left", "right"), ("L", "R"), ("lh", "rh"), ("LT", "RT")])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Left Hippocampus", "Right Hippocampus"),
        ("Left-Cerebral-White-Matter", "Right-Cerebral-White-Matter"),
        ("hippocampus_left", "hippocampus_right"),
        ("LEFT_THALAMUS", "RIGHT_THALAMUS"),
        ("Putamen_L", "Putamen_R"),
        ("l-putamen", "r-putamen"),
        ("ctx-lh-cuneus", "ctx-rh-cuneus"),
        ("ctx_lh_G_and_S_frontomargin", "ctx_rh_G_and_S_frontomargin"),
        ("LH_Vis_1", "RH_Vis_1"),
        ("LeftHippocampus", "RightHippocampus"),
        ("HippocampusL", "HippocampusR"),
        ("LHippocampus", "RHippocampus"),
        ("leftputamen", "rightputamen"),
        ("putamenleft", "putamenright"),
        ("rib_left_1", "rib_right_1"),
        ("Left Accumbens", "right-accumbens"),
        ("Left", "Right"),
        ("LHIP", "RHIP"),
        ("HIPL", "HIPR"),
        ("lput", "rput"),
        ("LV", "RV"),
        ("PUTl", "PUTR"),
        ("volume1lh2", "volume1rh2"),
    ],
)
def test_the_usual_spellings_are_pairs(left: str, right: str) -> None:
    assert left_right_pairs([right, "Brain Stem", left]) == [(left, right)]


def test_words_that_only_contain_a_side_are_not_fooled() -> None:
    assert left_right_pairs(LOOKS_SIDED) == []
    assert left_right_pairs(["bright", "bleft", "cleft", "cright"]) == []
    assert left_right_pairs(["LV", "LIV", "RRV"]) == []
    assert mirror_axes_allowed(LOOKS_SIDED) == (0, 1, 2)


def test_numbered_structures_pair_with_their_own_number() -> None:
    assert left_right_pairs(["rib_L_1", "rib_R_10", "rib_R_1", "rib_L_10"]) == [
        ("rib_L_1", "rib_R_1"),
        ("rib_L_10", "rib_R_10"),
    ]


@given(names)
def test_every_name_is_in_at_most_one_pair_and_order_does_not_matter(some: list[str]) -> None:
    pairs = left_right_pairs(some)
    used = [name for pair in pairs for name in pair]
    assert len(used) == len(set(used))
    assert set(used) <= set(some)
    assert pairs == left_right_pairs(some[::-1])


@given(stems, patterns, side_words)
def test_exchanging_the_sides_of_all_names_exchanges_the_pairs(
    some: list[str], pattern: str, sides: tuple[str, str]
) -> None:
    left = [pattern.format(side=sides[0], stem=stem) for stem in some]
    right = [pattern.format(side=sides[1], stem=stem) for stem in some]
    found = left_right_pairs([*left, "Brain Stem", *right])
    assert found == sorted(zip(left, right, strict=True))
    back = {sides[0]: sides[1], sides[1]: sides[0]}
    swap = re.compile(rf"\b({sides[0]}|{sides[1]})\b|(?<=_)({sides[0]}|{sides[1]})$")
    exchanged = [swap.sub(lambda match: back[match[0]], name) for name in [*left, "Brain Stem", *right]]
    assert left_right_pairs(exchanged) == found


def test_mirroring_leaves_out_the_left_right_axis_where_names_have_sides() -> None:
    assert mirror_axes_allowed(["Anterior", "Posterior"]) == (0, 1, 2)
    assert mirror_axes_allowed(["Hippocampus_L", "Hippocampus_R"]) == (0, 1)
    assert mirror_axes_allowed([]) == (0, 1, 2)


@pytest.mark.parametrize(
    "names",
    [["Left Hippocampus"], ["Hippocampus_L"], ["hippo-R"], ["leftputamen"], ["putamenright"], ["LHippocampus"],
     ["L_Hippocampus", "R_Hippo"], ["LHIP", "RHIP"], ["HIPL", "HIPR"], ["lput", "rput"], ["LV", "RV"],
     ["rib_L1"], ["thalamicleft", "thalamicright"]],
)  # fmt: skip
def test_any_name_that_may_be_sided_forbids_mirroring(names: list[str]) -> None:
    assert mirror_axes_allowed([*names, "Brain Stem"]) == (0, 1)


def test_with_axes_as_stored_no_axis_is_safe_for_sided_names() -> None:
    assert mirror_axes_allowed(["Left A", "Right A"], orientation="as_stored") == ()
    assert mirror_axes_allowed(["A"], orientation="as_stored") == (0, 1, 2)
