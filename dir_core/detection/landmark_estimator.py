"""MediaPipe's palm and landmark networks as an estimator of the pipeline. The tracking itself is in tracker.py."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from dir_core.conventions import Side
from dir_core.detection import landmark_network, locator, palm_detector
from dir_core.detection.clip_tracking import read_part, track_hands
from dir_core.detection.tracker import HandTracker
from dir_core.footage import Frame
from dir_core.hand_model import HandModel
from dir_core.landmarks import LandmarkClip
from dir_core.parts import Parts


class LandmarkEstimator:
    """The embedded default: key points of both hands, and how sure each of them is where hands touch."""

    name = "landmarks"
    licence = "Apache-2.0"
    hand_models: dict[Side, HandModel] | None = None

    def __init__(
        self,
        mirrored: bool = False,
        box: tuple[float, float, float, float] | None = None,
        two_hands: bool = True,
    ):
        """See `HandTracker` for the arguments."""
        self._mirrored = mirrored
        self._box = box
        self._two_hands = two_hands
        self.warnings: list[str] = []
        used = [palm_detector.WEIGHTS, landmark_network.WEIGHTS]
        if two_hands:
            used += [locator.WEIGHTS, landmark_network.TWO_HAND_WEIGHTS]
        self.digest = hashlib.sha256(b"".join(path.read_bytes() for path in used)).hexdigest()

    def estimate(
        self,
        frames: Iterable[Frame],
        on_frame: Callable[[int], None] | None = None,
        parts: Parts | None = None,
    ) -> LandmarkClip:
        """Follow both hands through the frames of one clip."""
        with HandTracker(self._mirrored, box=self._box, two_hands=self._two_hands) as tracker:
            return track_hands(frames, tracker, on_frame, parts)

    def read_part(self, part: Mapping[str, NDArray[Any]]) -> LandmarkClip:
        """Both hands in the frames of a finished part."""
        return read_part(part)
