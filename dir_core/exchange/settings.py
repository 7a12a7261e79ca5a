"""What the user may say about the results of another program. Loads with the standard library alone."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from dir_core.errors import SettingsError

Labels = Literal["picture", "selfie"]
LABELS: Final[tuple[Labels, ...]] = ("picture", "selfie")

LeftHands = Literal["auto", "own", "mirrored"]
LEFT_HANDS: Final[tuple[LeftHands, ...]] = ("auto", "own", "mirrored")


@dataclass(frozen=True)
class ImportSettings:
    """What a file of results does not say itself, or says wrongly; every default works without thought.

    Attributes:
        frame_rate: frames per second; None takes what the footage or the file says.
        image_size: width and height of the picture in pixels; None as above.
        focal_length: of the lens in pixels; None takes the file's, if that is the focal length of a lens.
        field_of_view: of the lens, horizontal, radians; None for 60 degrees where nobody knows the focal length.
        hand_length: wrist crease to middle finger tip, metres; None keeps the size of the file's hands, and gives
            landmarks that of an average adult.
        mirrored: the footage is a selfie, left and right are exchanged in it.
        labels: of MediaPipe's landmarks: whether "Left" means the left hand of the "picture" as it was given, or of
            the person in a "selfie", which older versions took every picture for.
        left_hands: of MANO parameters: whether a left hand has parameters of its "own", or those of the right hand
            that it is in the mirror ("mirrored"); "auto" goes by the kind of file, see docs/EXCHANGE.md.
        flat_hand_mean: of MANO parameters: whether they count from the flat hand or from MANO's mean pose; None
            takes what the file says, or the flat hand.
        hand_model: folder with the MANO_LEFT and MANO_RIGHT files that the parameters belong to; None for the open
            hand.
    """

    frame_rate: float | None = None
    image_size: tuple[int, int] | None = None
    focal_length: float | None = None
    field_of_view: float | None = None
    hand_length: float | None = None
    mirrored: bool = False
    labels: Labels = "picture"
    left_hands: LeftHands = "auto"
    flat_hand_mean: bool | None = None
    hand_model: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before any work begins.

        Raises:
            SettingsError: names the option and its range.
        """
        if self.frame_rate is not None and not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise SettingsError(f"The frame rate is {self.frame_rate}, give a positive number of frames per second.")
        if self.image_size is not None and not min(self.image_size) >= 1:
            width, height = self.image_size
            raise SettingsError(f"A picture of {width} x {height} pixels cannot work, give its width and height.")
        if self.focal_length is not None and not (math.isfinite(self.focal_length) and self.focal_length > 0):
            raise SettingsError(f"The focal length is {self.focal_length:g} px, give a positive number of pixels.")
        if self.field_of_view is not None and not math.radians(1) <= self.field_of_view <= math.radians(170):
            degrees = math.degrees(self.field_of_view)
            raise SettingsError(f"A field of view of {degrees:g} degrees cannot work, give 1 to 170 degrees.")
        if self.hand_length is not None and not 0.05 <= self.hand_length <= 0.4:
            raise SettingsError(f"A hand length of {self.hand_length:g} m is not a hand's, give 0.05 to 0.4 m.")
        for name, value, good in (("labels", self.labels, LABELS), ("left hands", self.left_hands, LEFT_HANDS)):
            if value not in good:
                raise SettingsError(f"There are no {name} {value!r}, choose one of: {', '.join(good)}.")
