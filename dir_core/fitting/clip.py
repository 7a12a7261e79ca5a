"""Fit both hands of a whole clip: steady the landmarks, find one shape, pose every frame, place it in the camera.

Where the hands overlap in the picture (`Meeting`) this is done once more with what is hidden doubted, and the hands
are brought to depths that agree (`touching_hands.py`); the result is blended in and out.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.camera import rays
from dir_core.clean_up.contact import separate_hands
from dir_core.clean_up.gaps import Between, cross_long_gaps, rows_to_fit, straight
from dir_core.clean_up.pose import PLACE_NOISE, steady_position
from dir_core.clean_up.settings import Cutoffs
from dir_core.clean_up.smoothing import smooth_vectors
from dir_core.conventions import JOINTS, KEYPOINTS, SHAPE_COUNT, Side
from dir_core.degrees_of_freedom import finger_geometry
from dir_core.fitting.hand_pose import fit_pose, place_on_rays
from dir_core.fitting.hand_shape import HandShape, bone_lengths, fit_shape
from dir_core.fitting.landmark_places import in_camera_axes, landmark_places
from dir_core.fitting.touching_hands import near_times, overlap_share, place_in_picture, settle_depth
from dir_core.hand_model import HandModel
from dir_core.landmarks import HandLandmarkTrack

Array = NDArray[Any]

LIGHT: Final = Cutoffs(2.5, 2.5, 2.5)
"""For a raw take, which must keep fast motion: clean-up may smooth more, never less."""

PIXEL_NOISE: Final = 0.02
"""Of the hand: not what pixels jitter, but what bones of the model are longer or shorter."""

LANDMARK_TILT: Final = 0.07
"""Radians; the network for two hands knows which way a hand faces better than the pixels do."""

_LANDMARK_NOISE = 0.006  # metres, nominal for the smoother
_PALM = [0, 5, 9, 13, 17]  # key points that move with the wrist
_STEPS = 4  # more of them move the joints by less than the landmarks err, and make real clips less calm
_DOUBT = 1  # power of the confidence of what is hidden, on top of its own; on synthetic clips better than 0.5 and 2
_RUN_UP = 1.0  # seconds around an overlap that the smoother looks at there
_GAP_TRUST = 0.5  # weight of landmarks that were carried across a gap


@dataclass(frozen=True, eq=False)
class FittedHand:
    """One hand of T frames in camera axes.

    Attributes:
        rotation: [T, 16, 4] quaternions in MANO joint order, sign-continuous.
        translation: [T, 3] wrist, metres.
        shape: [10] shape components.
        scale: size factor.
        pixels: [T, 21, 2] the key points in the picture that the pose explains.

    Frames in which the hand was not observed hold an interpolation, so that curves stay continuous.
    """

    rotation: Array
    translation: Array
    shape: Array
    scale: float
    pixels: Array


@dataclass(frozen=True, eq=False)
class PosedTrack:
    """One hand of T frames as landmarks smoothed with one cut-off show it; not yet placed in the camera.

    Attributes:
        rotation: [T, 16, 4] quaternions in MANO joint order, sign-continuous.
        around: [T, 21, 2] smoothed pixels, counted from the palm's middle.
        shape: of the hand, shared by both.
        met: the same in the rows of the sighting's `Meeting`; None if there is none.
    """

    rotation: Array
    around: Array
    shape: HandShape
    met: "PosedTrack | None" = None


@dataclass(frozen=True, eq=False)
class _SteadyTrack:
    """Smoothed landmarks [T, 21, 3] in metres and pixels of one hand, carried across gaps.

    Attributes:
        landmarks: [T, 21, 3] metres.
        around: [T, 21, 2] pixels from the palm's middle.
        palm: [T, 1, 2] the palm's middle.
    """

    landmarks: Array
    around: Array
    palm: Array


@dataclass(frozen=True, eq=False)
class Sighting:
    """What is known of both hands of a clip before anything is smoothed.

    Attributes:
        tracks: landmarks of each side over the T frames of the clip.
        time: [T] seconds.
        models: the hand model of each side.
        camera_matrix: [3, 3] pixels.
        hand_length: wrist crease to middle finger tip, metres; sets the size and with it the depth.
        shape: [10] components if the person's hand is known already, None to find them.
    """

    tracks: Mapping[Side, HandLandmarkTrack]
    time: Array
    models: Mapping[Side, HandModel]
    camera_matrix: Array
    hand_length: float
    shape: Array | None = None

    @cached_property
    def meeting(self) -> "Meeting | None":
        """The frames in which the hands overlap in the picture; None if they never do."""
        share = overlap_share(self.tracks, self.time)
        if not share.any():
            return None
        rows = np.flatnonzero(near_times(self.time, self.time[share > 0], _RUN_UP))
        tracks = {side: _doubt_hidden(track, rows) for side, track in self.tracks.items()}
        return Meeting(share, rows, replace(self, tracks=tracks, time=self.time[rows]))


@dataclass(frozen=True, eq=False)
class Meeting:
    """Hands of a clip of T frames that overlap in the picture, where key points are hidden.

    Attributes:
        share: [T] how far the frame belongs to an overlap, 0..1, smooth in time.
        rows: [N] frames around it, which the smoother looks at.
        seen: what is known in these frames, trusting what is hidden less.
    """

    share: Array
    rows: Array
    seen: Sighting

    def blend(self, values: Array, met: Array, between: Between = straight) -> Array:
        """Values [T, ...] that become those of the overlap [N, ...] in its frames; the others stay bit-identical."""
        inside = self.share[self.rows] > 0
        rows = self.rows[inside]
        share = self.share[rows].reshape(-1, *[1] * (values.ndim - 1))
        blended = values.copy()
        blended[rows] = between(values[rows], met[inside], share)
        return blended


def fit_hands(
    tracks: Mapping[Side, HandLandmarkTrack],
    time: Array,
    models: Mapping[Side, HandModel],
    camera_matrix: Array,
    hand_length: float,
    *,
    cutoffs: Cutoffs = LIGHT,
    shape: Array | None = None,
) -> dict[Side, FittedHand]:
    """Pose both hands in one camera with one shape and one size for the clip, together where they overlap.

    Args:
        tracks, time, models, camera_matrix, hand_length, shape: see `Sighting`.
        cutoffs: how much each part is smoothed.
    """
    sighting = Sighting(tracks, time, models, camera_matrix, hand_length, shape)
    hands = fit_sighting(sighting, cutoffs, lambda cutoff: pose_hands(sighting, cutoff))
    if sighting.meeting is None:
        return hands
    confidence = {side: trust(track) for side, track in tracks.items()}
    # Here, not in `fit_sighting`: what a clean-up pushes apart is its user's choice.
    parted = separate_hands(hands, models, camera_matrix, confidence, time, fingers=False)
    return {
        side: replace(hand, rotation=parted.hands[side].rotation, translation=parted.hands[side].translation)
        for side, hand in hands.items()
    }


def fit_sighting(
    sighting: Sighting, cutoffs: Cutoffs, pose: Callable[[float], Mapping[Side, PosedTrack]]
) -> dict[Side, FittedHand]:
    """As `fit_hands`, with the poses from `pose(cut-off)`: `pose_hands`, or what remembers its results."""
    time, model = sighting.time, sighting.models["right"]
    posed = pose(cutoffs.fingers)
    if cutoffs.wrist_rotation != cutoffs.fingers:
        # What is smooth already is hardly smoothed again: the wrist of another strength needs a fit of its own.
        wrist = pose(cutoffs.wrist_rotation)
        posed = {side: _turn_wrist(hand, wrist[side]) for side, hand in posed.items()}
    scales = [track.shape.scale for track in posed.values()]
    scale = scales[0] if scales else sighting.hand_length / model.length(np.zeros(SHAPE_COUNT))
    with ThreadPoolExecutor(len(sighting.tracks)) as pool:
        placed = {side: pool.submit(_place_track, sighting, side, posed[side], cutoffs) for side in posed}
        hands = {
            side: placed[side].result() if side in placed else absent_hand(len(time), scale) for side in sighting.tracks
        }
    return _agree_in_depth(sighting.meeting, hands) if sighting.meeting else hands


def pose_hands(sighting: Sighting, cutoff: float) -> dict[Side, PosedTrack]:
    """Smooth everything that was seen with one cut-off and fit the hands to it; unseen sides are left out.

    Here the palm's place is smoothed like the rest, however it is smoothed in the end: it hardly tells the pose, and so
    nobody's fingers change with the strength for positions.
    """
    seen = [side for side, track in sighting.tracks.items() if track.observed.any()]
    if not seen:
        return {}
    # The arrays are long: two threads share the work well, because numpy and LAPACK let each other run.
    with ThreadPoolExecutor(len(seen)) as pool:
        smooth = {side: pool.submit(_steady_track, sighting.tracks[side], sighting.time, cutoff) for side in seen}
        steady = {side: job.result() for side, job in smooth.items()}
        # One person has one shape: both sides share the components, so either model finds the same.
        lengths = _clip_bone_lengths(sighting.tracks, steady)
        hand = fit_shape(sighting.models["right"], lengths, sighting.hand_length, sighting.shape)
        turned = {side: pool.submit(_pose_track, sighting, side, steady[side], hand, cutoff) for side in seen}
        return {side: job.result() for side, job in turned.items()}


def _pose_track(sighting: Sighting, side: Side, steady: _SteadyTrack, hand: HandShape, cutoff: float) -> PosedTrack:
    """One hand posed from its smoothed landmarks, and where hands overlap once more from those that are not hidden."""
    met = None
    if sighting.meeting is not None:
        seen = sighting.meeting.seen
        steady_met = _steady_track(seen.tracks[side], seen.time, cutoff)
        met = PosedTrack(_fit_track(seen, side, steady_met, hand), steady_met.around, hand)
    return PosedTrack(_fit_track(sighting, side, steady, hand), steady.around, hand, met)


def _turn_wrist(fingers: PosedTrack, wrist: PosedTrack) -> PosedTrack:
    """A hand with the turn of its wrist from another fit."""
    rotation = np.concatenate([wrist.rotation[:, :1], fingers.rotation[:, 1:]], axis=1)
    met = _turn_wrist(fingers.met, wrist.met) if fingers.met and wrist.met else None
    return replace(fingers, rotation=rotation, met=met)


def _place_track(sighting: Sighting, side: Side, posed: PosedTrack, cutoffs: Cutoffs) -> FittedHand:
    """The hand placed in the camera."""
    alone = _place(sighting, side, posed, place_on_rays, cutoffs)
    meeting = sighting.meeting
    if meeting is None or posed.met is None:
        return alone
    met = _place(meeting.seen, side, posed.met, place_in_picture, cutoffs)
    return replace(
        alone,
        rotation=rotations.make_continuous(meeting.blend(alone.rotation, met.rotation, _turn_between)),
        translation=meeting.blend(alone.translation, met.translation),
        pixels=meeting.blend(alone.pixels, met.pixels),
    )


def _place(
    sighting: Sighting,
    side: Side,
    posed: PosedTrack,
    place: Callable[[Array, Array, Array], Array],
    cutoffs: Cutoffs,
) -> FittedHand:
    """The hand where `place`(key points about the wrist, their rays, trust) puts it, smoothed."""
    track, hand = sighting.tracks[side], posed.shape
    keypoints = sighting.models[side].pose_keypoints(posed.rotation, None, hand.shape, hand.scale)
    relative = landmark_places(keypoints) - keypoints[:, :1]
    # Placed by the pixels as they were seen: their noise tells the smoother how far to trust them.
    ray = rays(track.keypoints_2d.astype(np.float64), sighting.camera_matrix)
    return FittedHand(
        rotation=posed.rotation,
        translation=steady_position(
            place(relative, ray, trust(track)),
            track.confidence,
            track.observed,
            sighting.time,
            cutoffs=cutoffs,
            hand_length=sighting.hand_length,
        ),
        shape=hand.shape,
        scale=hand.scale,
        pixels=posed.around + _steady_palm(track, sighting.time, cutoffs.wrist_position),
    )


def _agree_in_depth(meeting: Meeting, hands: Mapping[Side, FittedHand]) -> dict[Side, FittedHand]:
    """Both hands at depths that fit together where they overlap in the picture."""
    rows, seen = meeting.rows, meeting.seen
    places = settle_depth(
        {
            side: replace(hand, rotation=hand.rotation[rows], translation=hand.translation[rows])
            for side, hand in hands.items()
        },
        {side: hand.pixels[rows] for side, hand in hands.items()},  # smoothed: they go on where a hand is lost
        {side: trust(track) for side, track in seen.tracks.items()},
        seen.time,
        models=seen.models,
        camera_matrix=seen.camera_matrix,
    )
    return {
        side: replace(hand, translation=meeting.blend(hand.translation, places[side])) for side, hand in hands.items()
    }


def _steady_track(track: HandLandmarkTrack, time: Array, cutoff: float) -> _SteadyTrack:
    """Smooth how the hand looks, in space and around its palm in the picture; the palm's place apart.

    A hand that waves moves all its pixels; around the palm only the pose moves them.
    """
    weight, noise = trust(track), _pixel_noise(track)
    around = track.keypoints_2d - _palm(track)
    return _SteadyTrack(
        landmarks=smooth_vectors(track.keypoints_3d, weight, time, nominal_noise=_LANDMARK_NOISE, cutoff=cutoff),
        around=smooth_vectors(around, weight, time, nominal_noise=noise, cutoff=cutoff),
        palm=_steady_palm(track, time, cutoff),
    )


def _steady_palm(track: HandLandmarkTrack, time: Array, cutoff: float) -> Array:
    """Smoothed middle of the palm in the picture, [T, 1, 2] pixels."""
    sure = trust(track).mean(axis=1, keepdims=True)
    return smooth_vectors(_palm(track), sure, time, nominal_noise=_pixel_noise(track), cutoff=cutoff)


def _palm(track: HandLandmarkTrack) -> Array:
    """Middle of the palm in the picture, [T, 1, 2] pixels."""
    weight = trust(track)[:, _PALM]
    share = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    return np.einsum("tk,tkd->td", share, track.keypoints_2d[:, _PALM].astype(np.float64))[:, None]


def _pixel_noise(track: HandLandmarkTrack) -> float:
    """Nominal noise of the key points in the picture, for the smoother."""
    return PLACE_NOISE * _extent(track.keypoints_2d[track.observed])


def _fit_track(sighting: Sighting, side: Side, steady: _SteadyTrack, hand: HandShape) -> Array:
    """Rotations [T, 16, 4] of one hand; short gaps hold the carried motion, long ones are crossed evenly."""
    track = sighting.tracks[side]
    rows = rows_to_fit(track.observed, sighting.time)
    weight = np.where(track.observed[:, None], trust(track), _GAP_TRUST)[rows]
    landmarks = in_camera_axes(steady.landmarks[rows], steady.palm[rows, 0], sighting.camera_matrix)
    pose = fit_pose(
        finger_geometry(sighting.models[side], hand.shape, hand.scale),
        hand.landmark_scale * landmarks,
        (steady.around + steady.palm)[rows],
        weight,
        sighting.camera_matrix,
        landmark_tilt=LANDMARK_TILT,
        pixel_noise=PIXEL_NOISE,
        steps=_STEPS,
    )
    rotation = absent_hand(len(rows), 1.0).rotation
    rotation[rows] = pose.rotation
    return rotations.make_continuous(cross_long_gaps(rotation, track.observed, sighting.time, rotations.slerp))


def trust(track: HandLandmarkTrack) -> Array:
    """Weight [T, 21] of every key point; 0 where the hand was not observed."""
    return track.confidence.astype(np.float64) * track.observed[:, None]


def _turn_between(start: Array, end: Array, share: Array) -> Array:
    """Quaternions a share [..., 1] of the way."""
    return rotations.slerp(start, end, share[..., 0])


def _doubt_hidden(track: HandLandmarkTrack, rows: Array) -> HandLandmarkTrack:
    """Some frames of a track, in which key points that are less sure than the frame's best say little.

    A confidence is the chance to be near; what is nowhere near has no say in a least-squares fit, however little. Among
    the frames each keeps its weight: else the smoother would believe any that follows an overlap.
    """
    confidence = track.confidence[rows]
    best = np.maximum(confidence.max(axis=1, keepdims=True), 1e-9)
    doubted = confidence * (confidence / best) ** _DOUBT
    return HandLandmarkTrack(track.keypoints_2d[rows], track.keypoints_3d[rows], doubted, track.observed[rows])


def _extent(pixels: Array) -> float:
    """Median larger side of the hands' boxes, pixels."""
    if len(pixels) == 0:
        return 1.0
    return max(float(np.median(np.ptp(pixels, axis=1).max(axis=-1))), 1.0)


def _clip_bone_lengths(tracks: Mapping[Side, HandLandmarkTrack], steady: Mapping[Side, _SteadyTrack]) -> Array:
    """Bone lengths of the person, from the frames of the hands that were seen."""
    seen = {side: tracks[side].observed for side in steady}
    points = np.concatenate([hand.landmarks[seen[side]] for side, hand in steady.items()])
    return bone_lengths(points, np.concatenate([tracks[side].confidence[seen[side]] for side in steady]))


def absent_hand(frames: int, scale: float) -> FittedHand:
    """A hand that was never seen: the flat pose at the origin."""
    rotation = np.zeros((frames, len(JOINTS), 4))
    rotation[..., 0] = 1.0
    pixels = np.zeros((frames, len(KEYPOINTS), 2))
    return FittedHand(rotation, np.zeros((frames, 3)), np.zeros(SHAPE_COUNT), scale, pixels)
