"""The places worth a look: each kind found where it was made, nothing found in good takes, judged ranges left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dir_core import rotations
from dir_core.clean import Cleaned, CleanUp
from dir_core.clean_up.edits import Edit, apply_edits
from dir_core.clean_up.problems import Problem, find_problems, find_touches, review_rows, sort_problems
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.conventions import JOINTS, SIDES
from dir_core.hand_model import open_hand_models
from dir_core.take import Take
from tests.takes import make_raw_take

MODELS = open_hand_models()
FIRST = 10  # source frame of row 0 in made-up takes
FRAMES = 150


@pytest.fixture(scope="module")
def good() -> Take:
    return make_raw_take(MODELS, times=np.arange(FRAMES) / 30, noise=0.001, seed=3)[0]


def clean(raw: Take, *edits: Edit, **settings) -> Cleaned:
    return CleanUp(raw, MODELS).clean(CleanUpSettings(**settings), edits)


def problems(raw: Take, *edits: Edit) -> tuple[Problem, ...]:
    corrected = clean(raw, *edits, contact="off").corrected
    return find_problems(corrected.take, MODELS, corrected.repair, edits)


def rows(problem: Problem) -> tuple[int, int]:
    return problem.first - FIRST, problem.last - FIRST


def change(take: Take, side: str, **arrays) -> Take:
    return replace(take, **{side: replace(take.hand(side), **arrays)})


def unsee(take: Take, side: str, *gaps: tuple[int, int]) -> Take:
    return apply_edits(take, [Edit("drop", FIRST + first, FIRST + last, side) for first, last in gaps])


def test_a_good_take_has_none(good: Take) -> None:
    assert problems(good) == ()


def test_gaps_long_enough_to_matter(good: Take) -> None:
    raw = unsee(good, "right", (0, 9), (20, 20), (40, 59), (62, 70), (140, 149))
    (lost,) = problems(raw)
    assert (lost.kind, lost.side, rows(lost)) == ("lost", "right", (40, 70))
    assert lost.sentence == "The right hand was not seen for 1.1 s."
    assert problems(unsee(good, "left", (0, FRAMES - 1))) == (), "a hand that is never there is none that was lost"


def test_badly_seen_stretches(good: Take) -> None:
    confidence = good.left.confidence.copy()
    confidence[[5, *range(30, 36), *range(40, 50)]] = 0.4
    confidence[100:110] = 0.7
    (unsure,) = problems(change(good, "left", confidence=confidence))
    assert (unsure.kind, unsure.side, rows(unsure)) == ("unsure", "left", (30, 49))
    assert "40%" in unsure.sentence


def test_exchanged_sides(good: Take) -> None:
    raw = apply_edits(good, [Edit("swap", FIRST + 60, FIRST + 89)])
    (exchanged,) = problems(raw)
    assert (exchanged.kind, exchanged.side, rows(exchanged)) == ("exchanged", None, (60, 89))
    looked = problems(raw, Edit("swap", FIRST, FIRST + FRAMES - 1))
    assert "exchanged" not in {problem.kind for problem in looked}, "somebody has looked at the sides"


@pytest.mark.parametrize("where", ["place", "fingers"])
def test_jumps(good: Take, where: str) -> None:
    hand = good.right
    pixels, points = hand.keypoints_2d.copy(), hand.keypoints_3d.copy()
    if where == "place":
        pixels[70] += [140, 0]
    else:
        points[70, 5:9] += [0.0, 0.12, 0.0]
    (jump,) = problems(change(good, "right", keypoints_2d=pixels, keypoints_3d=points))
    assert (jump.kind, jump.side) == ("jump", "right")
    assert rows(jump)[0] in (69, 70)
    assert rows(jump)[1] in (70, 71)
    assert ("fingers" in jump.sentence) == (where == "fingers")


def test_jumps_into_and_out_of_gaps_are_none(good: Take) -> None:
    pixels = good.right.keypoints_2d.copy()
    pixels[70:] += [140, 0]
    raw = unsee(change(good, "right", keypoints_2d=pixels), "right", (69, 70))
    assert problems(raw) == ()


def test_joints_far_outside(good: Take) -> None:
    turn = good.left.rotation.copy()
    back = rotations.from_rotation_vector(np.radians(-70.0) * MODELS["left"].flexion_axes(good.left.shape)[3])
    turn[90:100, JOINTS.index("middle1")] = back
    turn[20, JOINTS.index("middle1")] = back
    (bent,) = problems(change(good, "left", rotation=turn.astype(np.float32)))
    assert (bent.kind, bent.side, rows(bent)) == ("joints", "left", (90, 99))
    assert bent.sentence.startswith("The left middle finger is bent ")


def test_what_the_user_has_judged_is_left_out(good: Take) -> None:
    confidence = good.left.confidence.copy()
    confidence[30:50] = 0.4
    raw = unsee(change(good, "left", confidence=confidence), "left", (100, 119))
    assert [problem.kind for problem in problems(raw)] == ["unsure", "lost"]
    whole = [Edit("trust", FIRST + 30, FIRST + 49, "left", 0.2), Edit("drop", FIRST + 100, FIRST + 119, "left")]
    assert problems(raw, *whole) == ()
    other_hand = [replace(edit, side="right") for edit in whole]
    assert {problem.kind for problem in problems(raw, *other_hand)} == {"unsure", "lost"}
    (rest,) = problems(raw, Edit("trust", FIRST + 30, FIRST + 39, "left", 0.2), whole[1])
    assert rows(rest) == (40, 49)


def test_touching_hands(good: Take) -> None:
    depth = np.zeros(FRAMES)
    depth[[10, 40, 41, 42, 43, 47, 48]] = [0.02, 0.001, 0.004, 0.006, 0.001, 0.002, 0.002]
    (touch,) = find_touches(good, depth)
    assert (touch.kind, touch.side, rows(touch)) == ("touch", None, (40, 48))
    assert " 6 mm " in touch.sentence
    assert find_touches(good, None) == ()


def test_hands_pushed_into_each_other_are_found() -> None:
    raw = make_raw_take(MODELS, times=np.arange(FRAMES) / 30, estimator="dir")[0]
    place = raw.left.translation.copy()
    place[60:90] = raw.right.translation[60:90]
    cleaned = clean(change(raw, "left", translation=place), identity=False)
    found = find_touches(cleaned.corrected.take, cleaned.contact.before.between)
    assert found
    assert all(50 <= row <= 100 for problem in found for row in rows(problem))


def test_order() -> None:
    made = [Problem("lost", first, last, "left", "") for first, last in ((30, 40), (10, 12), (10, 30))]
    assert [(p.first, p.last) for p in sort_problems(made)] == [(10, 30), (10, 12), (30, 40)]


def test_a_long_bad_clip_gives_tens_not_hundreds() -> None:
    """Two minutes in which a hand flickers, with bad rows everywhere."""
    raw = make_raw_take(MODELS, times=np.arange(3600) / 30, noise=0.002)[0]
    rng = np.random.default_rng(5)
    unseen = np.repeat(rng.random(360) < 0.2, 10)
    unseen |= rng.random(3600) < 0.05
    confidence = np.repeat(rng.random((180, 1)), 20, axis=0) * np.ones((1, 21))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], unseen, [0]])))
    raw = change(raw, "left", confidence=confidence.astype(np.float32))
    raw = unsee(raw, "left", *zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))
    assert 20 < len(problems(raw)) < 120


def test_strip(good: Take) -> None:
    raw = unsee(good, "left", (40, 99))
    take = clean(raw, beyond="hide", fill=0.5).take
    exchanged = np.arange(FRAMES) < 7
    strip = review_rows(take, exchanged)
    assert strip["left"].confidence[:40] == pytest.approx(0.95)
    assert not strip["left"].confidence[40:100].any()
    assert strip["left"].confidence.dtype == np.float32
    assert np.array_equal(strip["left"].hidden, ~strip["left"].observed)
    assert not strip["right"].hidden.any()
    assert all(np.array_equal(strip[side].exchanged, exchanged) for side in SIDES)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_takes(good: Take, frames: int) -> None:
    raw = make_raw_take(MODELS, times=np.arange(frames) / 30)[0]
    assert problems(raw) == ()


def test_good_footage_is_not_full_of_problems(shared: Path) -> None:
    from dir_core.capture import capture_take
    from dir_core.capture_settings import CaptureSettings

    raw = capture_take(shared / "footage" / "two_hands_composite.mp4", CaptureSettings(end=3.0)).take
    assert len(problems(raw)) <= 2
