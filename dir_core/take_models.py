"""The hand model that a take belongs to: from the user's folder, from the checkpoint it was captured with, or ours."""

import os

from dir_core.conventions import Side
from dir_core.hand_model import HandModel, load_hand_models
from dir_core.take import Take


def take_hand_models(
    take: Take,
    folder: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> dict[Side, HandModel]:
    """The hands of a take: as asked, else those of the checkpoint or folder it was captured with, else the open hand.

    Args:
        take: any take.
        folder: holds MANO files.
        checkpoint: weights of DIR that carry a hand model.

    Raises:
        HandModelError: the folder holds no usable hand model.
        SettingsError: the model lies in a checkpoint, and torch is not installed.
        CheckpointError: the checkpoint cannot be used.
    """
    if not folder and not checkpoint:
        settings = take.meta["settings"] if isinstance(take.meta["settings"], dict) else {}
        folder, checkpoint = (_text(settings.get(name)) for name in ("hand_model", "checkpoint"))
    if folder or not checkpoint:
        return load_hand_models(folder or None)
    from dir_core.estimator import checkpoint_hand_models  # loads OpenCV and torch, which few takes need

    return checkpoint_hand_models(checkpoint)


def _text(value: object) -> str | None:
    """A text of a foreign file's settings; None for anything else."""
    return value if isinstance(value, str) else None
