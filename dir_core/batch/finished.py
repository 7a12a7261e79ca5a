"""Whether a take that lies there is the one that would be captured now."""

import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dir_core.capture_settings import CaptureSettings
from dir_core.conventions import SIDES
from dir_core.errors import TakeError
from dir_core.take import Take, load_take

# Told by content instead (where weights and hands lie), or without a say in the result (where and how it is computed).
_NOT_COMPARED = frozenset(("checkpoint", "hand_model", "device", "batch"))


@dataclass(frozen=True)
class Identity:
    """What a capture is made with, besides its footage.

    Attributes:
        estimator: its name.
        weights: digest of its weights.
        hands: digests of the hand models, left and right.
    """

    estimator: str
    weights: str
    hands: tuple[str, str]


def identify(settings: CaptureSettings) -> Identity:
    """Load what the settings name and say what it is: in a process of its own, which gives the memory back.

    Raises:
        SettingsError, CheckpointError, HandModelError: a capture with these settings cannot work.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as beside:
        return beside.submit(_identify, settings).result()


def _identify(settings: CaptureSettings) -> Identity:
    from dataclasses import replace

    from dir_core.capture import choose_estimator, choose_hand_models

    estimator = choose_estimator(replace(settings, device="cpu"))  # a GPU is for those who capture
    models = choose_hand_models(estimator, settings)
    left, right = (models[side].digest for side in SIDES)
    return Identity(estimator.name, estimator.digest, (left, right))


def what_differs(path: Path, footage: Path, settings: CaptureSettings, identity: Identity) -> tuple[str, Take | None]:
    """How the take at `path` differs from what would be captured now, and the take.

    Returns:
        "" and the take if it is the same; else words that go on after "it ...", and None.

    Raises:
        FootageError, SettingsError: the footage cannot be read.
    """
    from dir_core.footage import open_footage

    try:
        take = load_take(path)
    except TakeError:
        return "is no take", None
    meta = take.meta
    if meta["history"]:
        return "is a clean take", None
    changed = _changed_settings(meta["settings"], settings)
    if changed:
        return f"was captured with other settings ({', '.join(changed)})", None
    estimator, hands = _mapping(meta["estimator"]), _mapping(_mapping(meta["hand_model"]).get("digest"))
    if (estimator.get("name"), estimator.get("weights")) != (identity.estimator, identity.weights):
        return "was captured with other weights", None
    if tuple(hands.get(side) for side in SIDES) != identity.hands:
        return "was captured with another hand model", None
    with open_footage(footage, settings.start, settings.end, frame_rate=settings.frame_rate) as opened:
        same = opened.info.content_hash == _mapping(meta["source"]).get("content_hash")
    return ("", take) if same else ("was captured from other footage", None)


def _changed_settings(before: Any, settings: CaptureSettings) -> list[str]:
    """Names of the settings in which a take differs, in the words of the command line."""
    known, missing = _mapping(before), object()
    now = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()}
    names = sorted(now.keys() | known.keys())
    return [
        name.replace("_", " ")
        for name in names
        if name not in _NOT_COMPARED and known.get(name, missing) != now.get(name, missing)
    ]


def _mapping(value: Any) -> dict[str, Any]:
    """The object of a foreign file, or an empty one."""
    return value if isinstance(value, dict) else {}
