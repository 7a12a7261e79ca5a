"""The default capture on drawn clips of two hands: apart, passing, praying, clasped. Drawing them needs moderngl.

The clips show a hand that no network of this project has learned from (blender_assets/second_hand).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.capture import CaptureSettings, Stage, capture_take
from dir_core.conventions import SIDES, Side
from dir_core.detection.landmark_estimator import LandmarkEstimator
from dir_core.evaluation.metrics import posed_keypoints
from dir_core.evaluation.touching_metrics import (
    HandErrors,
    SeenHands,
    TouchingFigures,
    TrueHands,
    join_errors,
    measure_hands,
    straight_ahead,
    summarise,
    table,
)
from dir_core.fitting.landmark_places import landmark_places
from dir_core.hand_model import HandModel, load_hand_models
from dir_core.take import Take, load_take
from dir_core.training.two_hands import Kind, View

Array = NDArray[Any]

SECOND_HAND = Path(__file__).resolve().parents[2] / "blender_assets" / "second_hand"

SECONDS = 2.5
FRAME_RATE = 30.0
IMAGE_SIZE = (640, 480)

_KINDS: Final[tuple[Kind, ...]] = ("apart", "near", "passing", "prayer", "interlaced", "wrapped")
_VIEWS: Final[tuple[View, ...]] = ("webcam", "egocentric")
_SKINS = (1, 5, 7)  # light, brown and dark, of the ten tones of training/looks.py
_FIRST_SEED = 7000  # far from those of pictures to learn from


@dataclass(frozen=True)
class DrawnClip:
    """One of the clips: what the hands do, from where, in which skin tone, and the seed of everything else."""

    kind: Kind
    view: View
    skin: int
    seed: int

    @property
    def name(self) -> str:
        """Its name in tables and of its files."""
        return f"{self.kind} {self.view}"


CLIPS: Final = tuple(
    DrawnClip(kind, view, _SKINS[(row + column) % len(_SKINS)], _FIRST_SEED + len(_VIEWS) * row + column)
    for row, kind in enumerate(_KINDS)
    for column, view in enumerate(_VIEWS)
)
"""Six kinds from two sides; every skin tone in four clips."""


@dataclass(frozen=True, eq=False)
class CapturedClip:
    """What the default capture made of a clip.

    Attributes:
        take: key points as they were seen, and the fitted hands.
        truth: the clip as it was drawn.
        tracking_seconds, fitting_seconds: time on the clock.
        processor_seconds: of all cores together, tracking and fitting.
    """

    take: Take
    truth: Take
    tracking_seconds: float
    fitting_seconds: float
    processor_seconds: float


@dataclass(frozen=True)
class TouchingReport:
    """The figures of all clips.

    Attributes:
        seen: of the key points as they were seen, by clip, by kind ("all prayer") and of all together ("all").
        fitted: the same of the fitted hands.
        frames_per_second: tracking and fitting on the clock, by clip; processor_ms: a frame, of all cores together.
    """

    seen: dict[str, TouchingFigures]
    fitted: dict[str, TouchingFigures]
    frames_per_second: dict[str, float]
    processor_ms: dict[str, float]

    def text(self) -> str:
        """The report to read."""
        speed = [
            f"{name:{max(map(len, self.seen))}} {rate:8.1f} {self.processor_ms[name]:8.1f}"
            for name, rate in self.frames_per_second.items()
        ]
        return "\n".join([
            "Drawn clips of a hand that was never learned from. Shares in percent; wrist mm and PA mm of hands with",
            "60 % of their key points visible, (all) of all that are seen, for a camera turned straight at each hand.",
            "\nKey points as they were seen, where the landmark network puts them:",
            table(self.seen),
            "\nFitted hands, joints of the hand model:",
            table(self.fitted),
            "\nFrames a second on the clock and processor milliseconds a frame, tracking and fitting:",
            *speed,
        ])  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {
            "seen": {name: figures.as_dict() for name, figures in self.seen.items()},
            "fitted": {name: figures.as_dict() for name, figures in self.fitted.items()},
            "frames_per_second": self.frames_per_second,
            "processor_ms": self.processor_ms,
        }


def draw_clips(folder: Path, clips: Sequence[DrawnClip], on_clip: Callable[[str], None] | None = None) -> list[Path]:
    """Draw what is not yet in `folder`; the movies, each with its truth beside it.

    Raises:
        HandModelError: the second hand is not there, as in an installed package.
        RendererError: there is no OpenGL to draw with.
        OutputError: the folder cannot be written.
    """
    movies = [folder / f"{clip.name.replace(' ', '_')}.mp4" for clip in clips]
    missing = [(clip, movie) for clip, movie in zip(clips, movies, strict=True) if not truth_path(movie).is_file()]
    if missing:
        from dir_core.training.synthetic import write_clip  # needs moderngl, which measuring drawn clips does not

        models = load_hand_models(SECOND_HAND)
        folder.mkdir(parents=True, exist_ok=True)
        for clip, movie in missing:
            if on_clip:
                on_clip(clip.name)
            write_clip(
                movie,
                models,
                clip.kind,
                clip.view,
                seed=clip.seed,
                skin=clip.skin,
                seconds=SECONDS,
                frame_rate=FRAME_RATE,
                image_size=IMAGE_SIZE,
            )
    return movies


def truth_path(movie: Path) -> Path:
    """Where the truth of a drawn movie lies."""
    return movie.with_suffix(".truth.npz")


def capture_clip(movie: Path, *, two_hands: bool = True) -> CapturedClip:
    """Capture a drawn movie as anyone would, with nothing set.

    Args:
        movie: with its truth beside it.
        two_hands: False for the tracker that knows nothing of hands that touch.
    """
    clock: list[tuple[float, float]] = []

    def note(_: Stage | None = None) -> None:
        clock.append((time.perf_counter(), time.process_time()))

    take = capture_take(movie, CaptureSettings(), estimator=LandmarkEstimator(two_hands=two_hands), on_stage=note).take
    note()
    _, tracking, fitting, end = clock
    return CapturedClip(
        take,
        load_take(truth_path(movie)),
        tracking_seconds=fitting[0] - tracking[0],
        fitting_seconds=end[0] - fitting[0],
        processor_seconds=end[1] - tracking[1],
    )


def measure_seen(take: Take, truth: Take) -> HandErrors:
    """Errors of the key points as they were seen, against the truth where the landmark network puts key points."""
    seen = SeenHands(*(_both(take, name) for name in ("keypoints_2d", "keypoints_3d", "observed")))
    return measure_hands(seen, true_hands(truth, take.frame, as_landmarks=True))


def measure_fitted(take: Take, truth: Take, models: Mapping[Side, HandModel]) -> HandErrors:
    """Errors of the fitted hands, against the joints of the hand that was drawn.

    Each is seen by a camera of its own clip turned straight at it: a movie does not tell its focal length, and a take
    with another one has its hands turned to other rays.
    """
    joints = np.stack([posed_keypoints(take.hand(side), models[side]) for side in SIDES], axis=1)
    observed = _both(take, "observed")
    # A hand that is never seen has no place; it is not measured, and must not be divided by its depth.
    joints = np.where(observed[..., None, None], joints, [0.0, 0.0, 1.0])
    points = project(joints, take.camera_matrix)
    seen = SeenHands(points, straight_ahead(joints, points, take.camera_matrix), observed)
    return measure_hands(seen, true_hands(truth, take.frame, as_landmarks=False))


def true_hands(truth: Take, frames: Array, *, as_landmarks: bool) -> TrueHands:
    """The drawn hands in `frames` [T] of their clip.

    Args:
        truth: as `training.synthetic.write_clip` gives it: its confidence says what is visible.
        frames: indices in the movie.
        as_landmarks: key points where the landmark network puts them instead of joints of the model.

    Returns:
        Key points in the axes of a camera turned straight at each hand: a network that is shown a crop cannot know
        where it was cut out.
    """
    joints = _both(truth, "keypoints_3d")[frames].astype(np.float64)
    joints = landmark_places(joints) if as_landmarks else joints
    points = project(joints, truth.camera_matrix)
    return TrueHands(
        keypoints_2d=points,
        keypoints_3d=straight_ahead(joints, points, truth.camera_matrix),
        visible=_both(truth, "confidence")[frames] > 0.5,
        present=_both(truth, "observed")[frames],
    )


def _both(take: Take, name: str) -> Array:
    """A field of both hands, [T, 2, ...]."""
    return np.stack([getattr(take.hand(side), name) for side in SIDES], axis=1)


def report_clips(clips: Sequence[DrawnClip], captured: Sequence[CapturedClip]) -> TouchingReport:
    """The figures of captured clips, each by itself, by kind and together."""
    models = load_hand_models()
    seen = [measure_seen(each.take, each.truth) for each in captured]
    fitted = [measure_fitted(each.take, each.truth, models) for each in captured]
    frames = [len(each.take) for each in captured]
    seconds = [each.tracking_seconds + each.fitting_seconds for each in captured]
    names = [clip.name for clip in clips]
    return TouchingReport(
        _group(clips, seen),
        _group(clips, fitted),
        {name: count / time for name, count, time in zip(names, frames, seconds, strict=True)},
        {name: 1e3 * each.processor_seconds / count for name, count, each in zip(names, frames, captured, strict=True)},
    )


def _group(clips: Sequence[DrawnClip], errors: Sequence[HandErrors]) -> dict[str, TouchingFigures]:
    rows = {clip.name: summarise(each) for clip, each in zip(clips, errors, strict=True)}
    for kind in dict.fromkeys(clip.kind for clip in clips):
        mine = [each for clip, each in zip(clips, errors, strict=True) if clip.kind == kind]
        rows[f"all {kind}"] = summarise(join_errors(mine))
    rows["all"] = summarise(join_errors(errors))
    return rows
