"""The DIR network as an estimator of the pipeline. Where it looks is in follow.py, running it in inference.py."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dir_core import rotations
from dir_core.conventions import JOINTS, KEYPOINTS, SHAPE_COUNT, SIDES, Side
from dir_core.detection.tracker import HandTracker
from dir_core.footage import Frame
from dir_core.hand_model import HandModel
from dir_core.landmarks import PosedClip, PosedHandTrack
from dir_core.network.checkpoint import load_checkpoint, weights_digest
from dir_core.network.crop import CROP_SIZE, cut_crop, uv_to_pixels
from dir_core.network.follow import (
    HandFollower,
    Look,
    Reply,
    Stretch,
    Verdict,
    has_moved,
    judge,
    stretches,
)
from dir_core.network.inference import BatchedNetwork, choose_device
from dir_core.network.model import DIR
from dir_core.parts import Parts

Array = NDArray[Any]

_LOOKS = 6  # passes over a stretch at most; blind frames need the second, fast blind motion one after the other

_RESEARCH_ONLY = "research use only: trained on InterHand2.6M (CC BY-NC 4.0), with MANO's data inside (licence of MPI)"


class DirEstimator:
    """Both hands, also touching ones, posed by the DIR network (Ren et al., ICCV 2023).

    Attributes:
        warnings: sentences about what went wrong without stopping the capture.
        hand_models: the hands that the network poses.
    """

    name = "dir"

    def __init__(
        self,
        network: DIR,
        digest: str,
        *,
        mirrored: bool = False,
        device: str = "auto",
        box: tuple[float, float, float, float] | None = None,
        batch: int | None = None,
    ):
        """Put a network to work.

        Args:
            network: in eval mode.
            digest: identity of its weights.
            mirrored: the footage is a selfie: every crop is turned back before the network sees it, so that
                left and right, rotations and offset are those of the real hands.
            device: "auto", "cuda", "mps" or "cpu".
            box: x, y, width, height in pixels of where both hands are when the footage starts.
            batch: crops that go through the network together; None takes what suits the device.

        Raises:
            SettingsError: there is no such device here.
        """
        self.digest = digest
        self._hands: dict[Side, HandModel] = network.hand_models
        self.hand_models: dict[Side, HandModel] | None = self._hands
        hand = network.hand_models["right"]
        self.licence = _RESEARCH_ONLY if hand.name == "MANO" else f"own weights for {hand.name}: {hand.licence}"
        self.warnings: list[str] = []
        self._root = network.root_joint
        self._mirrored = mirrored
        self._box = box
        self._network = BatchedNetwork(network, choose_device(device), batch, self.warnings.append)

    def estimate(
        self,
        frames: Iterable[Frame],
        on_frame: Callable[[int], None] | None = None,
        parts: Parts | None = None,
    ) -> PosedClip:
        """See both hands in all frames of a clip.

        Decoding runs in a thread of its own (`Footage`), the tracker in another, one stretch ahead. Stretches do
        not depend on the batch, and the follower only on finished stretches: so the batch does not change the
        result, and a capture that goes on with the stretches in `parts` ends with the same one to the last bit.
        """
        # Where hands touch, this network sees both better than any tracker: it must only say that they do.
        follower = HandFollower(self._box)
        finished: list[dict[str, Array]] = []
        done = 0
        with (
            HandTracker(self._mirrored, box=self._box, two_hands=False) as tracker,
            closing(_one_ahead(stretches(iter(frames), tracker))) as coming,
        ):
            for number, stretch in enumerate(coming):
                follower.observe(stretch)
                part = parts.load(number) if parts else None
                if part is None:
                    part = self._see(stretch, follower)
                    if parts:
                        parts.save(number, part)
                follower.update(stretch, _believed(part))
                finished.append(part)
                done += len(stretch.frames)
                if on_frame:
                    on_frame(done)
        return self._assemble(finished)

    def read_part(self, part: Mapping[str, Array]) -> PosedClip:
        """Both hands in the frames of a finished stretch."""
        return self._assemble([part])

    def _see(self, stretch: Stretch, follower: HandFollower) -> dict[str, Array]:
        """Look at every frame, and again where the hands were not where they were expected."""
        looks = follower.plan(stretch)
        replies: list[list[Reply]] = [[] for _ in looks]
        stale = list(range(len(looks)))
        for again in reversed(range(_LOOKS)):
            for row, answer in self._ask(stretch, looks, stale).items():
                replies[row] = answer
            verdicts = [self._judge(stretch, row, follower, looks[row], replies[row]) for row in range(len(looks))]
            part = _gather(stretch, replies, verdicts, self._hands)
            if not again:
                break
            planned = follower.plan(stretch, _believed(part))
            stale = [row for row in range(len(looks)) if has_moved(looks[row], planned[row])]
            if not stale:
                break
            for row in stale:
                looks[row] = planned[row]
        return part

    def _ask(self, stretch: Stretch, looks: list[list[Look]], rows: list[int]) -> dict[int, list[Reply]]:
        """What the network says to the looks of some rows; those that need the segmentation go together."""
        replies: dict[int, list[Reply]] = {row: [] for row in rows}
        for check in (False, True):
            chosen = [(row, look) for row in rows for look in looks[row] if look.check == check]
            if not chosen:
                continue
            crops = np.stack([cut_crop(stretch.frames[row].image, look.square.affine) for row, look in chosen])
            answer = self._network.ask(crops[:, :, ::-1] if self._mirrored else crops, check)
            for number, (row, look) in enumerate(chosen):
                values = {name: value[number] for name, value in answer.items()}
                affine = look.square.affine
                uv, middle = values.pop("uv").astype(np.float64), np.zeros(2)
                if self._mirrored:  # column i of a turned crop is column 255 - i, and uv = i / 128 - 1
                    uv[..., 0] = -uv[..., 0] - 2 / CROP_SIZE
                    middle[0] = -2 / CROP_SIZE
                replies[row].append(
                    Reply(
                        points=uv_to_pixels(uv, affine),
                        change=values["change"],
                        shown=values["shown"],
                        keypoints_3d=values["xyz"],
                        mano=values["mano"],
                        offset=values["offset"],
                        view=uv_to_pixels(middle, affine),
                    )
                )
        return replies

    def _judge(
        self, stretch: Stretch, row: int, follower: HandFollower, looks: list[Look], replies: list[Reply]
    ) -> Verdict:
        sightings = stretch.sightings[row]
        height, width = stretch.frames[row].image.shape[:2]
        return judge(looks, replies, sightings, [follower.side_of(each) for each in sightings], (width, height))

    def _assemble(self, parts: Sequence[Mapping[str, Array]]) -> PosedClip:
        empty = _gather(Stretch([], [], []), [], [], self._hands)
        whole = {name: np.concatenate([part[name] for part in [empty, *parts]]) for name in empty}

        def track(hand: int) -> PosedHandTrack:
            names = ("keypoints_2d", "keypoints_3d", "confidence", "observed", "rotation", "shape", "view")
            return PosedHandTrack(**{name: whole[name][:, hand] for name in names})

        return PosedClip(
            time=whole["time"],
            frame=whole["frame"],
            left=track(0),
            right=track(1),
            touching=whole["touching"],
            offset=whole["offset"],
            offset_known=whole["offset_known"],
            root=self._root,
        )


def load_dir_estimator(
    checkpoint: str | os.PathLike[str],
    *,
    mirrored: bool = False,
    device: str = "auto",
    box: tuple[float, float, float, float] | None = None,
    batch: int | None = None,
    legacy_weights: bool = False,
) -> DirEstimator:
    """The estimator with the weights of a file.

    Args:
        checkpoint: an official .pth or a .safetensors of this project.
        legacy_weights: they are the official ones of October 2023; else the file says which they are.
        mirrored, device, box, batch: see `DirEstimator`.

    Raises:
        CheckpointError: the file is no such checkpoint; the sentence says why.
        SettingsError: there is no such device here.
    """
    choose_device(device)  # before the weights are read, that takes seconds
    network = load_checkpoint(checkpoint, legacy_right_init=True if legacy_weights else None)
    return DirEstimator(network, weights_digest(network), mirrored=mirrored, device=device, box=box, batch=batch)


def rotations_from_mano(mano: Array, model: HandModel) -> Array:
    """Quaternions [N, 16, 4] relative to the flat template for the network's parameters [N, 64] of one hand.

    The 6D rotation is read evenly from both of its axes (SPEC 7); the mean pose is added to the fingers.
    """
    mano = mano.astype(np.float64)
    a, b = _unit(mano[:, 0:3]), _unit(mano[:, 3:6])
    middle, across = _unit(a + b), _unit(a - b)
    x, y = _unit(middle + across), _unit(middle - across)
    matrix = np.stack([x, y, _unit(np.cross(x, y))], axis=-1)
    wrist = rotations.from_matrix(rotations.nearest_rotation(matrix))
    return np.concatenate([wrist[:, None], model.pose_from_components(mano[:, 6:51])], axis=1)


def _gather(
    stretch: Stretch,
    replies: list[list[Reply]],
    verdicts: list[Verdict],
    models: dict[Side, HandModel],
) -> dict[str, Array]:
    """What was seen in a stretch, one array per quantity, rows are frames; second axis left, right."""
    count, points = len(stretch.frames), len(KEYPOINTS)
    part: dict[str, Array] = {
        "time": np.array([frame.time for frame in stretch.frames], np.float64),
        "frame": np.array([frame.index for frame in stretch.frames], np.int64),
        "touching": np.array(stretch.touching, np.bool_),
        "keypoints_2d": np.zeros((count, 2, points, 2), np.float32),
        "keypoints_3d": np.zeros((count, 2, points, 3), np.float32),
        "confidence": np.zeros((count, 2, points), np.float32),
        "observed": np.zeros((count, 2), np.bool_),
        "rotation": np.zeros((count, 2, len(JOINTS), 4), np.float32),
        "shape": np.zeros((count, 2, SHAPE_COUNT), np.float32),
        "view": np.zeros((count, 2, 2), np.float32),
        "offset": np.zeros((count, 3), np.float32),
        "offset_known": np.zeros(count, np.bool_),
    }
    part["rotation"][..., 0] = 1.0
    for row, verdict in enumerate(verdicts):
        for hand, side in enumerate(SIDES):
            if not verdict.observed[hand]:
                continue
            reply = replies[row][verdict.look[hand]]
            part["keypoints_2d"][row, hand] = reply.points[hand]
            part["keypoints_3d"][row, hand] = reply.keypoints_3d[hand]
            part["confidence"][row, hand] = verdict.confidence[hand]
            part["observed"][row, hand] = True
            part["rotation"][row, hand] = rotations_from_mano(reply.mano[None, hand], models[side])[0]
            part["shape"][row, hand] = reply.mano[hand, 51:61]
            part["view"][row, hand] = reply.view
        if verdict.observed.all() and verdict.look[0] == verdict.look[1]:
            part["offset"][row] = replies[row][verdict.look[0]].offset
            part["offset_known"][row] = True
    return part


def _believed(part: dict[str, Array]) -> list[dict[Side, Array]]:
    """Key points [21, 2] of the observed hands of every frame."""
    return [
        {side: points[hand].astype(np.float64) for hand, side in enumerate(SIDES) if observed[hand]}
        for points, observed in zip(part["keypoints_2d"], part["observed"], strict=True)
    ]


def _one_ahead(items: Iterator[Any]) -> Generator[Any, None, None]:
    """Make the next item in a thread while this one is used."""
    with ThreadPoolExecutor(1, "track hands") as beside:
        coming = beside.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = beside.submit(next, items, None)
            yield item


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)
