"""The interface of everything that sees hands in frames, and the choice between estimators. No network code."""

import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from dir_core.conventions import Side
from dir_core.errors import SettingsError
from dir_core.footage import Frame
from dir_core.hand_model import HandModel
from dir_core.landmarks import LandmarkClip
from dir_core.parts import Parts

ESTIMATORS = ("landmarks", "dir")
DEVICES = ("auto", "cpu")


class Estimator(Protocol):
    """Sees both hands in frames.

    Attributes:
        name: as given to `make_estimator`.
        licence: of its weights: an SPDX name, or one line that says what the user may do.
        digest: sha256 of its weights, hex.
        hand_models: the hands that its rotations and shapes belong to; None if it gives key points only.
        warnings: sentences about what went wrong in `estimate` without stopping it.
    """

    name: str
    licence: str
    digest: str
    hand_models: dict[Side, HandModel] | None
    warnings: list[str]

    def estimate(
        self,
        frames: Iterable[Frame],
        on_frame: Callable[[int], None] | None = None,
        parts: Parts | None = None,
    ) -> LandmarkClip:
        """See both hands in all frames of a clip; a PosedClip from estimators that pose the hands themselves.

        Args:
            frames: of the clip, in order.
            on_frame: told the number of frames done so far; what it raises ends the work.
            parts: where finished parts are kept and found again.
        """
        ...

    def read_part(self, part: Mapping[str, NDArray[Any]]) -> LandmarkClip:
        """Both hands in the frames of a part that `estimate` kept, as far as their sides are known by then."""
        ...


def make_estimator(
    name: str = "landmarks",
    *,
    mirrored: bool = False,
    device: str = "auto",
    checkpoint: str | None = None,
    box: tuple[float, float, float, float] | None = None,
    batch: int | None = None,
    legacy_weights: bool = False,
) -> Estimator:
    """The estimator of this name.

    Args:
        name: "landmarks" or "dir".
        mirrored: the footage is a mirror image (selfie).
        device: "auto" or "cpu"; for "dir" also "cuda" and "mps".
        checkpoint: weights of "dir".
        box: x, y, width and height in pixels around both hands where the footage starts.
        batch: for "dir", crops that go through the network together.
        legacy_weights: for "dir", the official weights are those of October 2023.

    Raises:
        SettingsError: there is no such estimator or device, or a setting is missing or belongs to another one;
            the sentence names the good ones.
        CheckpointError: the checkpoint cannot be used.
    """
    if name not in ESTIMATORS:
        raise SettingsError(f"There is no estimator {name!r}, choose one of: {', '.join(ESTIMATORS)}.")
    if name == "dir":
        if not checkpoint:
            raise SettingsError("The estimator 'dir' needs weights, give the checkpoint (a .pth or .safetensors file).")
        need_torch()
        from dir_core.network.estimator import load_dir_estimator

        return load_dir_estimator(
            checkpoint, mirrored=mirrored, device=device, box=box, batch=batch, legacy_weights=legacy_weights
        )
    foreign = {"checkpoint": checkpoint, "batch": batch, "legacy weights": legacy_weights}
    for option, value in foreign.items():
        if value:
            raise SettingsError(f"The estimator 'landmarks' takes no {option}, choose the estimator 'dir' for it.")
    if device not in DEVICES:
        raise SettingsError(f"The estimator {name!r} cannot run on {device!r}, choose one of: {', '.join(DEVICES)}.")
    from dir_core.detection.landmark_estimator import LandmarkEstimator

    return LandmarkEstimator(mirrored=mirrored, box=box)


def checkpoint_hand_models(checkpoint: str | os.PathLike[str]) -> dict[Side, HandModel]:
    """The hands inside a checkpoint: those of the takes that were captured with it.

    Raises:
        SettingsError: torch or safetensors is not installed.
        CheckpointError: the checkpoint cannot be used.
    """
    need_torch()
    from dir_core.network.checkpoint import load_checkpoint

    return load_checkpoint(checkpoint).hand_models


def need_torch() -> None:
    """Fail before the DIR network is imported if its packages are not there.

    Raises:
        SettingsError: names what is missing.
    """
    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        names = " and ".join(missing)
        raise SettingsError(
            f"The DIR network needs {names}, install it (`build_addon.py test` does) or take the estimator 'landmarks'."
        )
