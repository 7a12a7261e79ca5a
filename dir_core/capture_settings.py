"""What the user may choose for a capture. Loads without networks or video, so that Blender can hold and check it."""

import math
from dataclasses import dataclass

from dir_core.conventions import DEFAULT_HAND_LENGTH
from dir_core.errors import SettingsError


@dataclass(frozen=True)
class CaptureSettings:
    """What the user may choose; every default works without thought.

    Attributes:
        start, end: seconds of the footage to capture; None for its ends.
        step: capture the first frame of this range and every `step`-th after it.
        estimator: "landmarks" or "dir".
        focal_length: pixels of the upright source frame; wins over the field of view.
        field_of_view: horizontal, radians; None for 60 degrees.
        hand_length: wrist crease to middle finger tip, metres; sets size and depth.
        mirrored: the footage is a selfie, left and right are exchanged in it.
        device: "auto" or "cpu"; for "dir" also "cuda" and "mps".
        frame_rate: frames per second of an image sequence.
        hand_model: folder with MANO_LEFT and MANO_RIGHT files; None for the open hand model, or for the one inside
            the checkpoint.
        checkpoint: for "dir", its weights.
        box: x, y, width and height in pixels of the upright frame, around both hands where the range starts; for
            hands that are not found by themselves, because they are small, cut off or oddly posed.
        batch: for "dir", crops that go through the network together.
        legacy_weights: for "dir", the official weights are those of October 2023.
    """

    start: float | None = None
    end: float | None = None
    step: int = 1
    estimator: str = "landmarks"
    focal_length: float | None = None
    field_of_view: float | None = None
    hand_length: float = DEFAULT_HAND_LENGTH
    mirrored: bool = False
    device: str = "auto"
    frame_rate: float | None = None
    hand_model: str | None = None
    checkpoint: str | None = None
    box: tuple[float, float, float, float] | None = None
    batch: int | None = None
    legacy_weights: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before any work begins.

        Raises:
            SettingsError: names the option and its range.
        """
        if not 0.05 <= self.hand_length <= 0.4:
            raise SettingsError(f"A hand length of {self.hand_length:g} m is not a hand's, give 0.05 to 0.4 m.")
        if self.field_of_view is not None and not math.radians(1) <= self.field_of_view <= math.radians(170):
            degrees = math.degrees(self.field_of_view)
            raise SettingsError(f"A field of view of {degrees:g} degrees cannot work, give 1 to 170 degrees.")
        if self.focal_length is not None and not (math.isfinite(self.focal_length) and self.focal_length > 0):
            raise SettingsError(f"The focal length is {self.focal_length:g} px, give a positive number of pixels.")
        if self.start is not None and not self.start >= 0:
            raise SettingsError(f"The start is {self.start:g} s, give 0 or more.")
        if self.start is not None and self.end is not None and not self.end > self.start:
            raise SettingsError(f"The end ({self.end:g} s) must lie after the start ({self.start:g} s).")
        if not self.step >= 1:
            raise SettingsError(f"A step of {self.step} frames cannot work, give 1 for every frame, or more.")
        if self.box is not None and not (all(map(math.isfinite, self.box)) and min(self.box[2:]) >= 1):
            raise SettingsError(
                f"The box {' '.join(f'{value:g}' for value in self.box)} cannot work, "
                "give x, y, width and height in pixels."
            )
        if self.batch is not None and not self.batch >= 1:
            raise SettingsError(f"A batch of {self.batch} pictures cannot work, give 1 or more.")
