"""The whole clean-up: any raw take becomes a steady one that can be made again, and nothing in it is lost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dir_core import rotations
from dir_core.clean import Recipe, clean_take, find_raw, read_recipe
from dir_core.clean_up.edits import Edit, drop_hand
from dir_core.clean_up.settings import CleanUpSettings, settings_from_json
from dir_core.conventions import SIDES
from dir_core.errors import SettingsError, TakeError
from dir_core.evaluation.metrics import posed_keypoints
from dir_core.hand_model import open_hand_models
from dir_core.take import Take, load_take, save_take, take_digest
from tests.takes import make_raw_take

MODELS = open_hand_models()
TIME = np.arange(120) / 30
ESTIMATORS = ("landmarks", "posing")


@pytest.fixture(scope="module", params=ESTIMATORS)
def clip(request: pytest.FixtureRequest) -> tuple[Take, Take]:
    return make_raw_take(MODELS, times=TIME, estimator=request.param)


@pytest.fixture(scope="module")
def seen_by_landmarks() -> Take:
    return make_raw_take(MODELS, times=TIME)[0]


def joint_error(take: Take, truth: Take) -> float:
    """Mean distance of the key points from the wrist, mm."""
    errors = []
    for side in SIDES:
        found, wanted = (posed_keypoints(each.hand(side), MODELS[side]) for each in (take, truth))
        errors.append(np.linalg.norm((found - found[:, :1]) - (wanted - wanted[:, :1]), axis=-1).mean())
    return 1e3 * float(np.mean(errors))


def unsee(take: Take, side: str, rows: slice | np.ndarray) -> Take:
    mask = np.zeros(len(take), bool)
    mask[rows] = True
    return drop_hand(take, side, mask)


def test_a_clean_take_is_steadier_and_nearer_to_the_truth(clip: tuple[Take, Take]) -> None:
    raw, truth = clip
    cleaned = clean_take(raw, MODELS)
    assert joint_error(cleaned.take, truth) < 0.6 * joint_error(raw, truth)
    for side in SIDES:
        figures = getattr(cleaned.report, side)
        assert figures.seen == len(TIME)
        assert figures.jitter_after < 0.2 * figures.jitter_before
        assert figures.acceleration_after < 0.2 * figures.acceleration_before
        move = np.linalg.norm(cleaned.take.hand(side).translation - truth.hand(side).translation, axis=1)
        assert move.mean() < 0.012


def test_what_is_stored_fits_together(clip: tuple[Take, Take], tmp_path: Path) -> None:
    raw, _ = clip
    before = take_digest(raw)
    take = clean_take(raw, MODELS).take
    assert take_digest(raw) == before, "the raw take is never changed"
    save_take(take, tmp_path / "clean.npz")
    loaded = load_take(tmp_path / "clean.npz")
    for side in SIDES:
        hand = loaded.hand(side)
        assert hand.keypoints_3d == pytest.approx(posed_keypoints(hand, MODELS[side]), abs=1e-5)
        assert np.array_equal(hand.observed, raw.hand(side).observed)
        assert np.array_equal(hand.confidence, raw.hand(side).confidence)
        assert np.all(np.sum(hand.rotation[1:] * hand.rotation[:-1], axis=-1) > 0)
    assert np.array_equal(loaded.time, raw.time)


def test_a_clean_take_can_be_made_again(seen_by_landmarks: Take, tmp_path: Path) -> None:
    save_take(seen_by_landmarks, tmp_path / "raw.npz")
    chosen = CleanUpSettings(fingers=2.0, wrist_position=0.5, contact="off")
    edits = (Edit("drop", 40, 45, "left"), Edit("trust", 60, 70, None, 0.25))
    first = clean_take(load_take(tmp_path / "raw.npz"), MODELS, chosen, edits, tmp_path / "raw.npz").take
    save_take(first, tmp_path / "clean.npz")
    recipe = read_recipe(load_take(tmp_path / "clean.npz"))
    assert recipe == Recipe(str(tmp_path / "raw.npz"), take_digest(seen_by_landmarks), chosen, edits)
    raw, place = find_raw(tmp_path / "clean.npz", recipe)
    assert place == tmp_path / "raw.npz"
    assert take_digest(clean_take(raw, MODELS, recipe.settings, recipe.edits, place).take) == take_digest(first)


def test_a_raw_take_that_is_gone_or_another_one_is_told(seen_by_landmarks: Take, tmp_path: Path) -> None:
    clean = clean_take(seen_by_landmarks, MODELS, raw_path=tmp_path / "raw.npz").take
    recipe = read_recipe(clean)
    assert recipe is not None
    with pytest.raises(TakeError, match="give the raw take"):
        find_raw(tmp_path / "clean.npz", recipe)
    save_take(unsee(seen_by_landmarks, "left", slice(3, 4)), tmp_path / "raw.npz")
    with pytest.raises(TakeError, match="has changed"):
        find_raw(tmp_path / "clean.npz", recipe)
    with pytest.raises(TakeError, match="does not say"):
        find_raw(tmp_path / "clean.npz", replace(recipe, raw_path=""))
    with pytest.raises(TakeError, match="clean already"):
        clean_take(clean, MODELS)


def test_edits_reach_the_poses(seen_by_landmarks: Take) -> None:
    plain = clean_take(seen_by_landmarks, MODELS).take
    dropped = clean_take(seen_by_landmarks, MODELS, edits=[Edit("drop", 40, 45, "left")]).take
    assert not dropped.left.observed[30:36].any()
    assert dropped.left.observed.sum() == len(TIME) - 6
    turn = rotations.angle_between(dropped.right.rotation.astype(float), plain.right.rotation.astype(float))
    assert np.degrees(turn).max() < 0.1, "the other hand is left alone"
    wild = seen_by_landmarks.left.keypoints_2d.copy()
    wild[50:60] += [150, 0]
    spoiled = replace(seen_by_landmarks, left=replace(seen_by_landmarks.left, keypoints_2d=wild))
    error = [
        np.abs(clean_take(spoiled, MODELS, edits=edits).take.left.translation - plain.left.translation)[50:60].max()
        for edits in ([], [Edit("trust", 60, 69, "left", 0.01)])
    ]
    assert error[1] < 0.3 * error[0]


def test_swapped_frames_come_back(seen_by_landmarks: Take) -> None:
    from dir_core.clean_up.edits import apply_edits

    plain = clean_take(seen_by_landmarks, MODELS)
    crossed = apply_edits(seen_by_landmarks, [Edit("swap", 50, 79)])
    repaired = clean_take(crossed, MODELS)
    assert repaired.report.swaps == 1
    kept = clean_take(crossed, MODELS, CleanUpSettings(identity=False), [Edit("swap", 50, 79)])
    for cleaned in (repaired, kept):
        for side in SIDES:
            assert cleaned.take.hand(side).translation == pytest.approx(plain.take.hand(side).translation, abs=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gaps_are_filled_held_or_hidden_and_stay_marked(estimator: str) -> None:
    raw, truth = make_raw_take(MODELS, times=TIME, estimator=estimator)
    raw = unsee(unsee(unsee(raw, "right", slice(0, 5)), "right", slice(20, 27)), "right", slice(60, 110))
    filled = clean_take(raw, MODELS)
    assert not filled.take.right.observed[[0, 4, 20, 26, 60, 109]].any()
    assert filled.take.right.confidence[60:110].max() == 0
    assert (filled.report.right.gaps, filled.report.right.filled) == (2, 62)
    assert filled.report.right.longest_gap == pytest.approx(51 / 30)
    error = rotations.angle_between(filled.take.right.rotation, truth.right.rotation.astype(float))[20:27]
    assert np.degrees(error).mean() < 8
    assert np.array_equal(filled.take.right.rotation[60], filled.take.right.rotation[90]), (
        "longer than one second: still"
    )
    assert filled.take.meta["history"][-1]["hidden"] == {}
    hidden = clean_take(raw, MODELS, CleanUpSettings(beyond="hide", fill=0.5))
    assert hidden.take.meta["history"][-1]["hidden"] == {"left": [], "right": [[60, 109]]}
    assert hidden.report.right.hidden == 50


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_mirrored_take_is_cleaned_into_the_mirror_image(estimator: str) -> None:
    raw, _ = make_raw_take(MODELS, times=TIME[:60], estimator=estimator)

    def mirror(take: Take) -> Take:
        def hand(side: str):
            track = take.hand(side)
            return replace(
                track,
                rotation=track.rotation * np.float32([1, 1, -1, -1]),
                translation=track.translation * np.float32([-1, 1, 1]),
                keypoints_2d=track.keypoints_2d * np.float32([-1, 1]) + np.float32([1280, 0]),
                keypoints_3d=track.keypoints_3d * np.float32([-1, 1, 1]),
            )

        return replace(take, left=hand("right"), right=hand("left"))

    there, back = clean_take(raw, MODELS).take, mirror(clean_take(mirror(raw), MODELS).take)
    for side in SIDES:
        turn = rotations.angle_between(there.hand(side).rotation.astype(float), back.hand(side).rotation.astype(float))
        assert np.degrees(turn).max() < 0.05
        assert there.hand(side).translation == pytest.approx(back.hand(side).translation, abs=5e-5)


@settings(derandomize=True, max_examples=12, deadline=None)
@given(
    estimator=st.sampled_from(ESTIMATORS),
    left=st.lists(st.booleans(), min_size=9, max_size=9),
    right=st.lists(st.booleans(), min_size=9, max_size=9),
    pace=st.sampled_from([1 / 24, 0.3]),
)
def test_any_pattern_of_missing_frames_gives_a_whole_take(
    tmp_path_factory: pytest.TempPathFactory, estimator: str, left: list[bool], right: list[bool], pace: float
) -> None:
    raw, _ = make_raw_take(MODELS, times=np.arange(9) * pace, estimator=estimator)
    raw = unsee(unsee(raw, "left", ~np.array(left)), "right", ~np.array(right))
    take = clean_take(raw, MODELS, CleanUpSettings(beyond="hide", fill=0.2)).take
    save_take(take, tmp_path_factory.mktemp("take") / "clean.npz")  # refuses what is not finite and unit


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_shortest_clips_are_cleaned(estimator: str, count: int, tmp_path: Path) -> None:
    raw, _ = make_raw_take(MODELS, times=TIME[:count], estimator=estimator)
    save_take(clean_take(raw, MODELS).take, tmp_path / "clean.npz")


def test_a_hand_never_seen_stays_away(seen_by_landmarks: Take) -> None:
    raw = unsee(seen_by_landmarks, "left", slice(None))
    cleaned = clean_take(raw, MODELS)
    assert not cleaned.take.left.observed.any()
    assert not cleaned.take.left.keypoints_2d.any()
    assert cleaned.report.left.jitter_before is None
    assert not [sentence for sentence in cleaned.report.sentences() if "Left" in sentence]


def test_nothing_to_clean_is_told(seen_by_landmarks: Take) -> None:
    empty = replace(
        seen_by_landmarks,
        time=np.zeros(0),
        frame=np.zeros(0, int),
        **{
            side: replace(
                seen_by_landmarks.hand(side),
                **{
                    name: getattr(seen_by_landmarks.hand(side), name)[:0]
                    for name in ("rotation", "translation", "keypoints_2d", "keypoints_3d", "confidence", "observed")
                },
            )
            for side in SIDES
        },
    )
    with pytest.raises(TakeError, match="no frames"):
        clean_take(empty, MODELS)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"fingers": -1}, "fingers"),
        ({"wrist_rotation": 9.0}, "wrist rotation"),
        ({"wrist_position": float("nan")}, "wrist position"),
        ({"fill": -0.1}, "Gaps"),
        ({"beyond": "jump"}, "still or hide"),
        ({"limits": 1}, "limits"),
        ({"fingers": "2"}, "fingers"),
    ],
)
def test_settings_that_cannot_work_are_refused(values: dict, what: str) -> None:
    with pytest.raises(SettingsError, match=what):
        CleanUpSettings(**values)


def test_settings_survive_the_history() -> None:
    chosen = CleanUpSettings(fingers=0.0, beyond="hide", identity=False)
    assert settings_from_json(chosen.as_json()) == chosen
    assert settings_from_json({}) == CleanUpSettings()
    for foreign in (None, [], {"strength": 3}):
        with pytest.raises(SettingsError, match="this version"):
            settings_from_json(foreign)
