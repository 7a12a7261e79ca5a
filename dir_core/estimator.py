"""The interface of everything that sees hands in frames, and the choice between estimators. No network code."""

from collections.abc import Callable, Iterable
from typing import Protocol

from dir_core.errors import SettingsError
from dir_core.footage import Frame
from dir_core.landmarks import LandmarkClip

ESTIMATORS = ("landmarks",)
DEVICES = ("auto", "cpu")


class Estimator(Protocol):
    """Sees both hands in frames.

    Attributes:
        name: as given to `make_estimator`.
        licence: SPDX name of the licence of its weights.
        digest: sha256 of its weights, hex.
    """

    name: str
    licence: str
    digest: str

    def estimate(self, frames: Iterable[Frame], on_frame: Callable[[int], None] | None = None) -> LandmarkClip:
        """See both hands in all frames of a clip; `on_frame` is told the number of frames done so far."""
        ...


def make_estimator(name: str = "landmarks", *, mirrored: bool = False, device: str = "auto") -> Estimator:
    """The estimator of this name.

    Args:
        name: "landmarks".
        mirrored: the footage is a mirror image (selfie).
        device: "auto" or "cpu".

    Raises:
        SettingsError: there is no such estimator or device; the sentence names the good ones.
    """
    if name not in ESTIMATORS:
        raise SettingsError(f"There is no estimator {name!r}, choose one of: {', '.join(ESTIMATORS)}.")
    if device not in DEVICES:
        raise SettingsError(f"The estimator {name!r} cannot run on {device!r}, choose one of: {', '.join(DEVICES)}.")
    from dir_core.detection.landmark_estimator import LandmarkEstimator

    return LandmarkEstimator(mirrored=mirrored)
