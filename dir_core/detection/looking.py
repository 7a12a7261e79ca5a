"""Asks the networks what is seen where in a picture. What becomes of the answers is the tracker's business."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from dir_core.detection.crop import Crop, whole_picture
from dir_core.detection.hand_distances import is_covered, is_over, is_usable, next_crop
from dir_core.detection.hidden_hands import is_elsewhere, trust
from dir_core.detection.landmark_network import HandLandmarks, LandmarkNetwork, TwoHandLandmarkNetwork
from dir_core.detection.locator import HandLocator, LocatedHands
from dir_core.detection.palm_detector import Palm, PalmDetector

Array = NDArray[Any]

SURE_PRESENCE = 0.7  # tiles and rotations find more, also more that is no hand
FOUND_TRUST = 0.3  # from it on a hand that was not seen is found elsewhere

_TRUST_ALONE = 0.45  # for hands that only the network for two hands sees
_BETTER_TRUST = 0.03  # how much more it must be trusted in another crop
_MOST_PALMS = 4  # that are looked at for a hand that is not seen
_SURE_FREE, _SURE_SIDE = 0.7, 0.9  # presence and handedness, where the untouched network alone is reason enough
_NOT_AGAINST = 0.2  # handedness of the untouched network that does not speak against a side


class HandLooker:
    """The palm network, the locator, and the landmark networks: the untouched one, and that which is told a side.

    Pictures are [H, W, 3] uint8 RGB; `right` is whether the hand to follow looks like a right one.
    """

    def __init__(self, threads: int, *, two_hands: bool):
        """Load the networks; those for two hands only if they are wanted."""
        self._palms = PalmDetector(threads=threads)
        # Two single-threaded networks side by side beat one network with two threads, twice.
        self._networks = [LandmarkNetwork(threads=1) for _ in range(2 if threads > 1 else 1)]
        self._beside = ThreadPoolExecutor(1, "second hand") if threads > 1 else None
        if two_hands:
            self._near_networks = [TwoHandLandmarkNetwork(threads=1) for _ in self._networks]
            self._locator = HandLocator(threads=threads)
        self._image: Array | None = None  # the present picture,
        self._all_palms: list[Palm] | None = None  # the palms in the whole of it,
        self._told: dict[tuple[Crop, bool], HandLandmarks] = {}  # and what was said about its crops
        self._seen: dict[Crop, HandLandmarks] = {}

    def close(self) -> None:
        """End the thread of the second network."""
        if self._beside:
            self._beside.shutdown()

    def forget(self) -> None:
        """Forget what was said about a picture: another one comes, maybe in the same array."""
        self._image, self._all_palms, self._told, self._seen = None, None, {}, {}

    def palms(self, image: Array, outer: Crop) -> list[Palm]:
        """Palms in a square of the picture."""
        return self._palms.detect(image, outer)

    def all_palms(self, image: Array) -> list[Palm]:
        """Palms in the whole picture, asked once a frame."""
        self._turn_to(image)
        if self._all_palms is None:
            self._all_palms = self.palms(image, whole_picture((image.shape[1], image.shape[0])))
        return self._all_palms

    def sides(self, image: Array, outer: Crop) -> LocatedHands:
        """Both hands by side in a square of the picture."""
        return self._locator.locate(image, outer)

    def at(self, image: Array, crop: Crop) -> HandLandmarks:
        """What the untouched network sees in a crop."""
        self._turn_to(image)
        if crop not in self._seen:
            self._seen[crop] = self._networks[0].locate(image, crop)
        return self._seen[crop]

    def told(self, image: Array, crop: Crop, right: bool) -> HandLandmarks:
        """What the network for two hands sees of a hand in a crop."""
        self._turn_to(image)
        if (crop, right) not in self._told:
            self._told[crop, right] = self._near_networks[0].locate(image, crop, right)
        return self._told[crop, right]

    def told_twice(self, image: Array, crop: Crop, right: bool) -> HandLandmarks:
        """`told`, or what is seen around that answer if it is trusted more: palms seen edge-on turn the crop."""
        seen = self.told(image, crop, right)
        return self.better(image, [next_crop(seen)], seen, right)

    def at_both(self, image: Array, crops: list[Crop]) -> list[HandLandmarks]:
        """`at` for at most two crops."""
        return self._side_by_side([network.locate for network in self._networks], [(image, crop) for crop in crops])

    def told_both(self, image: Array, crops: list[Crop], right: list[bool]) -> list[HandLandmarks]:
        """`told` for at most two crops."""
        questions = [(image, crop, side) for crop, side in zip(crops, right, strict=True)]
        return self._side_by_side([network.locate for network in self._near_networks], questions)

    def _turn_to(self, image: Array) -> None:
        if self._image is not image:
            self.forget()
            self._image = image

    def _side_by_side(self, locate: list[Callable[..., HandLandmarks]], questions: list[Any]) -> list[HandLandmarks]:
        """Answers to at most two questions, the second one meanwhile by the second network where there is one."""
        if len(questions) == 2 and self._beside:
            other = self._beside.submit(locate[1], *questions[1])
            return [locate[0](*questions[0]), other.result()]
        return [locate[0](*question) for question in questions]

    def better(self, image: Array, crops: list[Crop], first: HandLandmarks, right: bool) -> HandLandmarks:
        """What is seen of a hand in other crops, if it is trusted more there."""
        best = first
        for crop in crops:
            if is_usable(crop, image):
                seen = self.told(image, crop, right)
                if trust(seen, right) > trust(best, right) + _BETTER_TRUST:
                    best = seen
        return best

    def is_hand(self, image: Array, seen: HandLandmarks, right: bool | None = None) -> bool:
        """Whether the untouched network, which has seen more than drawings, sees a hand there, and of no other side."""
        looked = self.at(image, next_crop(seen))
        return looked.presence >= SURE_PRESENCE and (right is None or looked.agreement(right) >= _NOT_AGAINST)

    def at_palms(
        self,
        image: Array,
        palms: list[Palm],
        seen: HandLandmarks,
        other: HandLandmarks,
        right: bool,
        *,
        other_sure: bool = False,
    ) -> HandLandmarks:
        """What is seen of a hand that cannot be believed where palms are elsewhere; also by the untouched network.

        Where the other hand is surely seen, the hand at such a palm can be no other than this one, and the untouched
        network may take it for one of the other side, as it does with hands seen from their edge.
        """
        best, least = seen, FOUND_TRUST  # what was not believed may be trusted more: it lies on the other hand
        elsewhere = [palm for palm in palms if is_usable(palm.crop, image) and is_elsewhere(palm, seen, other)]
        for place, palm in enumerate(elsewhere[:_MOST_PALMS]):
            if not any(is_covered(palm.crop, before.crop) for before in elsewhere[:place]):
                again = self.told_twice(image, palm.crop, right)
                trusted = trust(again, right)
                if trusted > least and self.is_hand(image, again, None if other_sure else right):
                    best, least = again, trusted
                elif best is seen:
                    free = self.at(image, next_crop(again))
                    surely = free.agreement(right) >= _SURE_SIDE and free.presence >= _SURE_FREE
                    best = free if surely and not is_over(free, other) else best
        return best


def is_sure(seen: HandLandmarks, right: bool) -> bool:
    """Whether the network for two hands alone is reason enough to follow a hand."""
    return seen.presence >= SURE_PRESENCE and trust(seen, right) >= _TRUST_ALONE
