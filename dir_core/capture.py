"""The pipeline: footage in, raw Take out, one function per step."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core import __version__
from dir_core.camera import focal_length_from_field_of_view, make_camera_matrix
from dir_core.capture_settings import CaptureSettings
from dir_core.conventions import SIDES, Side
from dir_core.errors import FootageError, SettingsError
from dir_core.estimator import Estimator, make_estimator
from dir_core.fitting.clip import FittedHand, fit_hands
from dir_core.fitting.posed_clip import place_hands, turn_into_camera
from dir_core.footage import FootageInfo, open_footage
from dir_core.hand_model import HandModel, describe_models, load_hand_models
from dir_core.landmarks import LandmarkClip, PosedClip
from dir_core.take import SCHEMA, HandTrack, Take
from dir_core.worker.live_preview import LivePreview, PreviewedParts

__all__ = ["Capture", "CaptureSettings", "Stage", "capture_take"]

Array = NDArray[Any]

_SAME_TEMPLATE = 1e-4  # metres; a checkpoint holds single precision

OnFrame = Callable[[int, int], None]
"""Called with (frames done, frames expected)."""

Stage = Literal["preparing", "tracking", "fitting"]


@dataclass(frozen=True, eq=False)
class Capture:
    """A raw take and what the user should know about it, one sentence each."""

    take: Take
    warnings: tuple[str, ...]


def capture_take(
    path: str | os.PathLike[str],
    settings: CaptureSettings,
    on_frame: OnFrame | None = None,
    parts_folder: Path | None = None,
    preview_folder: Path | None = None,
    *,
    estimator: Estimator | None = None,
    on_stage: Callable[[Stage], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Capture:
    """Capture both hands of a video or an image sequence.

    Args:
        path: the footage.
        settings: what the user chose.
        on_frame: progress; what it raises ends the capture.
        parts_folder: where the estimator keeps what it has finished, so that the same call goes on after it was
            ended early; with the same result to the last bit. The caller removes it.
        preview_folder: where provisional hands of each finished part are written for those who look on; needs
            `parts_folder`. The caller removes it too.
        estimator: what sees the hands, None for what the settings ask for.
        on_stage: told what begins.
        on_warning: told each of the warnings, most of them as soon as there is a reason.

    Raises:
        FootageError, SettingsError, HandModelError, CheckpointError, OutputError: one sentence for the user.
    """
    enter = on_stage or (lambda stage: None)
    enter("preparing")
    estimator = estimator or choose_estimator(settings)
    models = choose_hand_models(estimator, settings)
    with open_footage(
        path, settings.start, settings.end, step=settings.step, frame_rate=settings.frame_rate
    ) as footage:
        info = footage.info
        check_box(info, settings)
        meta = describe(info, estimator, models, settings)
        expected = expected_frames(info, settings)
        camera_matrix = choose_camera(info, settings)
        preview = (
            LivePreview(
                preview_folder,
                estimator,
                models,
                camera_matrix=camera_matrix,
                image_size=info.size,
                hand_length=settings.hand_length,
            )
            if preview_folder
            else None
        )
        parts = PreviewedParts(parts_folder, meta, preview) if parts_folder else None
        told: list[str] = []

        def tell_warnings(warnings: list[str]) -> None:
            for sentence in warnings[len(told) :]:
                told.append(sentence)
                if on_warning:
                    on_warning(sentence)

        def count_frame(done: int) -> None:
            tell_warnings([*estimator.warnings])
            if on_frame:
                on_frame(done, expected)

        enter("tracking")
        try:
            clip = estimator.estimate(footage, count_frame, parts)
        except OSError as error:  # of decoding: whoever writes raises OutputError
            raise FootageError(
                f"Cannot read {error.filename or path}: {error.strerror or error}; put it back."
            ) from error
        tell_warnings([*estimator.warnings, *footage.warnings])
    enter("fitting")
    if isinstance(clip, PosedClip):
        clip = turn_into_camera(clip, camera_matrix)
        hands = place_hands(clip, models, camera_matrix, settings.hand_length)
    else:
        tracks = {side: clip.hand(side) for side in SIDES}
        hands = fit_hands(tracks, clip.time, models, camera_matrix, settings.hand_length)
    take = assemble_take(clip, hands, camera_matrix, meta)
    tell_warnings([*told, *find_concerns(clip, info)])
    return Capture(take, tuple(told))


def choose_estimator(settings: CaptureSettings) -> Estimator:
    """The estimator that the settings ask for.

    Raises:
        SettingsError, CheckpointError: see `make_estimator`.
    """
    return make_estimator(
        settings.estimator,
        mirrored=settings.mirrored,
        device=settings.device,
        checkpoint=settings.checkpoint,
        box=settings.box,
        batch=settings.batch,
        legacy_weights=settings.legacy_weights,
    )


def choose_hand_models(estimator: Estimator, settings: CaptureSettings) -> dict[Side, HandModel]:
    """The hands to fit: those the estimator poses itself, else the user's own, else the open hand.

    Raises:
        HandModelError: a file is missing, damaged or not trusted.
        SettingsError: the user's own hands are not those that the estimator poses.
    """
    if estimator.hand_models is None:
        return load_hand_models(settings.hand_model)
    if settings.hand_model is not None:
        chosen = load_hand_models(settings.hand_model)
        for side, model in estimator.hand_models.items():
            same = model.template.shape == chosen[side].template.shape
            if not same or np.abs(model.template - chosen[side].template).max() > _SAME_TEMPLATE:
                raise SettingsError(
                    f"The hand model in {settings.hand_model} is not the one inside the checkpoint, leave it out."
                )
    return estimator.hand_models


def check_box(info: FootageInfo, settings: CaptureSettings) -> None:
    """Refuse a box that shows nothing of the picture.

    Raises:
        SettingsError: gives the size of the picture.
    """
    if settings.box is None:
        return
    x, y, width, height = settings.box
    if not (x < info.size[0] and y < info.size[1] and x + width > 0 and y + height > 0):
        raise SettingsError(
            f"The box at {x:g}, {y:g} lies outside of the picture, which has {info.size[0]} x {info.size[1]} pixels."
        )


def expected_frames(info: FootageInfo, settings: CaptureSettings) -> int:
    """Frames of the asked range, for the progress bar."""
    end = info.duration if settings.end is None else min(settings.end, info.duration)
    frames = max(round((end - (settings.start or 0.0)) * info.frame_rate), 0)
    return math.ceil(frames / settings.step)


def choose_camera(info: FootageInfo, settings: CaptureSettings) -> Array:
    """Camera matrix from the settings, else from a field of view of 60 degrees.

    A mirrored picture is what a camera with a negative horizontal focal length sees: the hands stay real ones
    in camera axes, and everything that projects or casts rays lands on the mirrored pixels.
    """
    focal_length = settings.focal_length
    if focal_length is None and settings.field_of_view is not None:
        focal_length = focal_length_from_field_of_view(settings.field_of_view, info.size[0])
    camera_matrix = make_camera_matrix(info.size, focal_length)
    if settings.mirrored:
        camera_matrix[0, 0] *= -1
    return camera_matrix


def describe(
    info: FootageInfo, estimator: Estimator, models: dict[Side, HandModel], settings: CaptureSettings
) -> dict[str, Any]:
    """The take's meta: where it comes from and how it was made."""
    weights = {"checkpoint": Path(settings.checkpoint).name} if settings.checkpoint else {}
    return {
        "schema": SCHEMA,
        "program": f"two-hand-capture {__version__}",
        "source": {**asdict(info), "path": str(info.path)},
        "estimator": {"name": estimator.name, "licence": estimator.licence, "weights": estimator.digest, **weights},
        "hand_model": describe_models(models),
        "settings": asdict(settings),
        "history": [],
    }


def assemble_take(
    clip: LandmarkClip, hands: dict[Side, FittedHand], camera_matrix: Array, meta: dict[str, Any]
) -> Take:
    """Join what was seen and what was fitted into one raw take."""

    def track(side: Side) -> HandTrack:
        seen, fitted = clip.hand(side), hands[side]
        return HandTrack(
            rotation=fitted.rotation.astype(np.float32),
            translation=fitted.translation.astype(np.float32),
            shape=fitted.shape.astype(np.float32),
            scale=np.array([fitted.scale], np.float32),
            keypoints_2d=seen.keypoints_2d,
            keypoints_3d=seen.keypoints_3d,
            confidence=seen.confidence,
            observed=seen.observed,
        )

    return Take(
        meta=meta,
        time=clip.time,
        frame=clip.frame,
        camera_matrix=camera_matrix.astype(np.float32),
        image_size=np.array(meta["source"]["size"], np.int64),
        left=track("left"),
        right=track("right"),
    )


def find_concerns(clip: LandmarkClip, info: FootageInfo) -> list[str]:
    """What the user should look at, one sentence each."""
    concerns = []
    seen = {side: clip.hand(side).observed for side in SIDES}
    if not any(observed.any() for observed in seen.values()):
        concerns.append(f"No hand was found in {info.name}; check that hands are visible and larger than 40 pixels.")
    for side, observed in seen.items():
        if observed.any() and observed.mean() < 0.5:
            concerns.append(f"The {side} hand was seen in only {observed.mean():.0%} of the frames.")
    if clip.touching.any() and not isinstance(clip, PosedClip):
        concerns.append(f"The hands touch or overlap in {int(clip.touching.sum())} frames, look at them there first.")
    return concerns
