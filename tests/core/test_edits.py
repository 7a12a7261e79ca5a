"""The user's corrections do what they say, only where they say it, and survive being stored."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dir_core import rotations
from dir_core.clean_up.edits import Edit, apply_edits, as_json, exchange_sides, from_json, parse_edit
from dir_core.conventions import SIDES
from dir_core.errors import SettingsError
from dir_core.hand_model import open_hand_models
from dir_core.take import Take, load_take, save_take
from tests.takes import make_take

FRAME_FIELDS = ("rotation", "translation", "keypoints_2d", "keypoints_3d", "confidence", "observed")
FIRST, COUNT = 100, 24
TAKE = make_take(open_hand_models(), COUNT, first_frame=FIRST)

frames = st.integers(FIRST, FIRST + COUNT - 1)
ranges = st.tuples(frames, frames).map(sorted)
any_edit = st.one_of(
    ranges.map(lambda r: Edit("swap", *r)),
    st.builds(lambda r, side: Edit("drop", *r, side), ranges, st.sampled_from([None, *SIDES])),
    st.builds(
        lambda r, side, w: Edit("trust", *r, side, w),
        ranges,
        st.sampled_from([None, *SIDES]),
        st.floats(0, 1, width=32),
    ),
)


def arrays(take: Take) -> dict[str, Any]:
    fields = (*FRAME_FIELDS, "shape", "scale")
    return {f"{side}/{name}": getattr(take.hand(side), name) for side in SIDES for name in fields}


def assert_same(a: Take, b: Take) -> None:
    for name, value in arrays(a).items():
        np.testing.assert_array_equal(value, arrays(b)[name], err_msg=name)


def test_a_swap_exchanges_everything_in_its_frames_and_nothing_else():
    swapped = apply_edits(TAKE, [Edit("swap", 105, 109)])
    rows = slice(5, 10)
    for name in FRAME_FIELDS[1:]:
        for side, other in (SIDES, SIDES[::-1]):
            expected = getattr(TAKE.hand(side), name).copy()
            expected[rows] = getattr(TAKE.hand(other), name)[rows]
            np.testing.assert_array_equal(getattr(swapped.hand(side), name), expected, err_msg=f"{side}/{name}")
    turned = rotations.angle_between(swapped.left.rotation[rows], TAKE.right.rotation[rows])
    assert np.abs(turned).max() < 1e-3
    for side in SIDES:
        q = swapped.hand(side).rotation
        assert (np.sum(q[1:] * q[:-1], axis=-1) >= 0).all(), "a swap must keep the signs continuous"


@given(ranges)
def test_a_swap_twice_changes_nothing(limits):
    edit = Edit("swap", *limits)
    assert_same(apply_edits(TAKE, [edit, edit]), TAKE)


@given(ranges, st.sampled_from([None, *SIDES]))
def test_a_drop_is_idempotent_and_leaves_no_trace_of_the_hand(limits, side):
    edit = Edit("drop", *limits, side)
    once = apply_edits(TAKE, [edit])
    assert_same(apply_edits(once, [edit]), once)
    rows = (TAKE.frame >= limits[0]) & (TAKE.frame <= limits[1])
    for each in SIDES:
        gone = rows if side in (None, each) else np.zeros_like(rows)
        hand = once.hand(each)
        np.testing.assert_array_equal(hand.observed, TAKE.hand(each).observed & ~gone)
        assert not hand.confidence[gone].any()
        assert not hand.keypoints_2d[gone].any()
        assert not hand.keypoints_3d[gone].any()
        np.testing.assert_array_equal(hand.keypoints_2d[~gone], TAKE.hand(each).keypoints_2d[~gone])


@given(ranges, st.sampled_from([None, *SIDES]))
def test_no_trust_at_all_is_a_drop(limits, side):
    assert_same(
        apply_edits(TAKE, [Edit("trust", *limits, side, 0.0)]), apply_edits(TAKE, [Edit("drop", *limits, side)])
    )


def test_trust_multiplies_the_confidence_of_one_hand():
    take = apply_edits(TAKE, [Edit("trust", 103, 104, "right", 0.5), Edit("trust", 104, 104, None, 0.5)])
    np.testing.assert_allclose(take.right.confidence[2:6, 0], [0.9, 0.45, 0.225, 0.9], rtol=1e-6)
    np.testing.assert_allclose(take.left.confidence[2:6, 0], [0.9, 0.9, 0.45, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(take.right.observed, TAKE.right.observed)


@given(st.lists(any_edit, max_size=5))
def test_edits_never_change_the_take_they_are_given_and_give_a_valid_one(given_edits):
    before = {name: value.copy() for name, value in arrays(TAKE).items()}
    edited = apply_edits(TAKE, given_edits)
    for name, value in arrays(TAKE).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    for name, value in arrays(edited).items():
        assert value.dtype == before[name].dtype
        assert value.shape == before[name].shape
        assert np.isfinite(value).all()


def test_an_edited_take_can_be_stored(tmp_path):
    save_take(TAKE, tmp_path / "raw.npz")
    raw = load_take(tmp_path / "raw.npz")
    edits = [Edit("swap", 100, 110), Edit("drop", 105, 120, "left"), Edit("trust", 1, 500, None, 0.3)]
    edited = apply_edits(raw, edits)
    save_take(edited, tmp_path / "edited.npz")
    assert_same(load_take(tmp_path / "edited.npz"), edited)


def test_the_order_of_edits_counts():
    drop, swap = Edit("drop", 105, 109, "left"), Edit("swap", 105, 109)
    assert not apply_edits(TAKE, [drop, swap]).right.observed[5:10].any()
    assert not apply_edits(TAKE, [swap, drop]).left.observed[5:10].any()


def test_a_lone_hand_brings_its_shape_to_the_other_side():
    shape = np.full(10, 0.5, np.float32)
    absent = replace(
        TAKE.left, observed=np.zeros(COUNT, bool), shape=np.zeros(10, np.float32), scale=np.full(1, 0.9, np.float32)
    )
    take = replace(TAKE, left=absent, right=replace(TAKE.right, shape=shape))
    whole = exchange_sides(take, np.ones(COUNT, bool))
    np.testing.assert_array_equal(whole.left.shape, shape)
    assert whole.left.scale == 1.0
    part = exchange_sides(take, np.arange(COUNT) < 5)
    np.testing.assert_array_equal(part.left.shape, shape)
    np.testing.assert_array_equal(part.right.shape, shape)
    assert_same(exchange_sides(whole, np.ones(COUNT, bool)), take)


@pytest.mark.parametrize("edit", [Edit("swap", 0, 99), Edit("drop", 124, 200), Edit("trust", 5, 5, None, 0.5)])
def test_an_edit_beside_the_take_names_the_frames_there_are(edit):
    with pytest.raises(SettingsError, match="100 to 123"):
        apply_edits(TAKE, [edit])


def test_an_edit_of_an_empty_take_says_so():
    with pytest.raises(SettingsError, match="no frames"):
        apply_edits(make_take(open_hand_models(), 0), [Edit("swap", 0, 9)])


@given(st.lists(any_edit))
def test_edits_survive_json(given_edits):
    assert from_json(json.loads(json.dumps(as_json(given_edits)))) == tuple(given_edits)


@given(any_edit)
def test_an_edit_reads_what_it_says(edit):
    kind, text = str(edit).split(" ")
    again = parse_edit(kind, text)
    assert replace(again, weight=edit.weight) == edit
    assert again.weight == pytest.approx(edit.weight, abs=1e-4)


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({"kind": "swap"}, "list"),
        (["swap"], "Edit 1"),
        ([{"kind": "swap", "first": 1, "last": 2}, {"kind": "drop", "first": 1}], "Edit 2 .* last"),
        ([{"kind": "swap", "first": 1, "last": 2, "hand": "left"}], "hand"),
        ([{"kind": "flip", "first": 1, "last": 2}], "flip"),
        ([{"kind": "swap", "first": "1", "last": 2}], "'1'"),
        ([{"kind": "swap", "first": 1.0, "last": 2}], r"1\.0"),
        ([{"kind": "swap", "first": True, "last": 2}], "True"),
        ([{"kind": "drop", "first": -4, "last": 2}], "-4"),
        ([{"kind": "drop", "first": 4, "last": 2}], "4 back to 2"),
        ([{"kind": "drop", "first": 1, "last": 2, "side": "both"}], "both"),
        ([{"kind": "drop", "first": 1, "last": 2, "weight": 0.5}], "only a trust"),
        ([{"kind": "swap", "first": 1, "last": 2, "side": "left"}], "leave the side out"),
        ([{"kind": "trust", "first": 1, "last": 2, "weight": 1.5}], r"1\.5"),
        ([{"kind": "trust", "first": 1, "last": 2, "weight": float("nan")}], "nan"),
        ([{"kind": "trust", "first": 1, "last": 2, "weight": "0.5"}], "'0.5'"),
        ([{"kind": ["swap"], "first": 1, "last": 2}], "swap"),
    ],
)
def test_entries_that_are_no_edits_are_named(entries, named):
    with pytest.raises(SettingsError, match=named) as error:
        from_json(entries)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "text", "edit"),
    [
        ("swap", "120-180", Edit("swap", 120, 180)),
        ("swap", " 120 ", Edit("swap", 120, 120)),
        ("drop", "left:10-20", Edit("drop", 10, 20, "left")),
        ("drop", "7", Edit("drop", 7, 7)),
        ("trust", "right:30-60=0.2", Edit("trust", 30, 60, "right", 0.2)),
        ("trust", "30=1", Edit("trust", 30, 30, None, 1.0)),
        ("trust", "30-40=.5", Edit("trust", 30, 40, None, 0.5)),
    ],
)
def test_command_line_edits(kind, text, edit):
    assert parse_edit(kind, text) == edit


@pytest.mark.parametrize(
    ("kind", "text", "named"),
    [
        ("swap", "", "FIRST-LAST"),
        ("swap", "12-", "'12-'"),
        ("swap", "-3", "'-3'"),
        ("swap", "a-b", "'a-b'"),
        ("swap", "9-3", "9 back to 3"),
        ("swap", "left:1-2", "leave the side out"),
        ("swap", "1-2=0.5", "FIRST-LAST"),
        ("drop", "middle:1-2", "SIDE"),
        ("drop", "1-2=0.5", "SIDE"),
        ("trust", "1-2", "WEIGHT"),
        ("trust", "1-2=", "WEIGHT"),
        ("trust", "1-2=2", "from 0 to 1"),
        ("trust", "1-2=nan", "WEIGHT"),
        ("trust", "\u0661-\u0662=0.5", "WEIGHT"),
        ("flip", "1-2", "swap, drop, trust"),
    ],
)
def test_bad_command_line_edits_show_the_form(kind, text, named):
    with pytest.raises(SettingsError, match=named):
        parse_edit(kind, text)
