"""Synthetic pictures and clips of two hands with exact truth: seeded, drawn, kept on disk. Needs moderngl.

Picture number i of seed s is the same picture wherever and in whatever order it is drawn.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from dir_core import __version__
from dir_core.conventions import KEYPOINTS, SIDES, Side
from dir_core.errors import OutputError, SettingsError
from dir_core.hand_model import HandModel, describe_models
from dir_core.movie_files import MovieWriter, write_sheet
from dir_core.rotations import make_continuous
from dir_core.take import SCHEMA, HandTrack, Take, save_take, write_whole
from dir_core.training.anatomy import vary_build
from dir_core.training.looks import sample_look
from dir_core.training.motion import sample_clip
from dir_core.training.renderer import Renderer
from dir_core.training.scenes import KINDS, Framing, PosedHands, photograph, sample_hands, see_again
from dir_core.training.two_hands import Kind, Picture, TwoHands, View

Array = NDArray[Any]


PICTURE_SIDE: Final = 288  # pixels; a hand in a close picture has about the 224 that the landmark network looks at

PICTURES_OF_HANDS: Final = 4
"""Pictures in a row that show the same posed hands: finding hands that touch costs more than drawing them.

Each has its own camera, lens, framing, skin, light, clothes, objects and background.
"""

_SETTINGS = "pictures.json"
_DONE = "done.npy"


@dataclass(frozen=True, eq=False)
class Series:
    """Endlessly many pictures, of which each number is always the same one.

    Attributes:
        models: both hands; what is drawn has them in any build, see `anatomy`.
        framing: hands that fill the picture, or a scene with hands in it; see `photograph`.
        seed: of all of them.
        kind: of all of them, None for all kinds.
    """

    models: Mapping[Side, HandModel]
    framing: Framing = "close"
    seed: int = 0
    kind: Kind | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures on disk with their truth, mapped into memory; attributes as those of `Picture`, and `kind`.

    Attributes:
        images: [N, S, S, 3] uint8 RGB.
        camera_matrix: [N, 3, 3] pixels.
        keypoints_3d: [N, 2, 21, 3] float32 metres, camera axes.
        keypoints_2d: [N, 2, 21, 2] float32 pixels.
        visible: [N, 2, 21] bool.
        present: [N, 2] bool.
        kind: [N] int64, index into `KINDS`.
    """

    images: Array
    camera_matrix: Array
    keypoints_3d: Array
    keypoints_2d: Array
    visible: Array
    present: Array
    kind: Array

    def __len__(self) -> int:
        return len(self.images)


def _layout(count: int, side: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    points = (count, len(SIDES), len(KEYPOINTS))
    return {
        "images": ((count, side, side, 3), np.uint8),
        "camera_matrix": ((count, 3, 3), np.float64),
        "keypoints_3d": ((*points, 3), np.float32),
        "keypoints_2d": ((*points, 2), np.float32),
        "visible": (points, np.bool_),
        "present": ((count, len(SIDES)), np.bool_),
        "kind": ((count,), np.int64),
    }


class Painter:
    """Draws the pictures of one series; it keeps the hands of the last one for the next, which may show them too."""

    def __init__(self, renderer: Renderer, series: Series) -> None:
        self._renderer = renderer
        self._series = series
        self._models = vary_build(series.models)
        self._hands: tuple[int, PosedHands] | None = None

    def draw(self, number: int) -> tuple[TwoHands, Picture]:
        """One picture, `PICTURE_SIDE` pixels square."""
        series = self._series
        group, place = divmod(number, PICTURES_OF_HANDS)
        if self._hands is None or self._hands[0] != group:
            rng = np.random.default_rng((series.seed, group))
            self._hands = group, sample_hands(rng, self._models, series.kind)
        rng = np.random.default_rng((series.seed, group, place + 1))
        posed = see_again(rng, self._hands[1]) if place else self._hands[1]
        hands = photograph(rng, posed, series.framing, PICTURE_SIDE)
        return hands, self._renderer.draw(hands, 0, self._models, sample_look(rng, hands.view))


def render_clip(
    renderer: Renderer, hands: TwoHands, models: Mapping[Side, HandModel], seed: int, skin: int | None = None
) -> Iterator[Picture]:
    """The pictures of a sampled clip, one look for all of them.

    Args:
        renderer: draws.
        hands: as `sample_clip` gives them.
        models: both hands.
        seed: of the look.
        skin: number of a skin tone, None for any.
    """
    look = sample_look(np.random.default_rng(seed), hands.view, skin=skin)
    for frame in range(len(hands)):
        yield renderer.draw(hands, frame, models, look)


def write_pictures(
    folder: Path,
    series: Series,
    count: int,
    on_picture: Callable[[int], None] | None = None,
    *,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Draw pictures 0 .. count - 1 of a series into a folder; what is there already is kept.

    Several processes can share the work: each calls it with its own `share` once the folder has been laid out.

    Args:
        folder: made if it is not there.
        series: which pictures.
        count: pictures in all.
        on_picture: told the number of pictures done so far.
        share: this process, and how many of them there are.

    Raises:
        SettingsError: the folder holds other pictures, or is damaged.
        RendererError: there is no OpenGL to draw with.
        OutputError: the folder cannot be written.
    """
    lay_out(folder, series, count)
    arrays = {name: _open_array(folder / f"{name}.npy", "r+") for name in _layout(0, 0)}
    done = _open_array(folder / _DONE, "r+")
    # Whole groups of the same hands, which are found once.
    mine = [number for number in range(count) if number // PICTURES_OF_HANDS % share[1] == share[0]]
    with Renderer() as renderer:
        painter = Painter(renderer, series)
        for step, number in enumerate(mine):
            if not done[number]:
                hands, picture = painter.draw(number)
                arrays["images"][number] = picture.image
                arrays["kind"][number] = KINDS.index(hands.kind)
                for name in ("camera_matrix", "keypoints_3d", "keypoints_2d", "visible", "present"):
                    arrays[name][number] = getattr(picture, name)
                done[number] = True
            if on_picture:
                on_picture(step + 1)


def lay_out(folder: Path, series: Series, count: int) -> None:
    """Make the empty files of a folder of pictures, or check that it was made for the same ones.

    Raises:
        SettingsError, OutputError: see `write_pictures`.
    """
    wanted = {
        "program": __version__,
        "hand_model": describe_models(series.models)["digest"],
        "count": count,
        "framing": series.framing,
        "seed": series.seed,
        "kind": series.kind,
        "side": PICTURE_SIDE,
        "pictures_of_hands": PICTURES_OF_HANDS,
        "any_build": True,
    }
    settings = folder / _SETTINGS
    if settings.exists():
        if json.loads(settings.read_text()) != wanted:
            raise SettingsError(f"The folder {folder} holds pictures of other settings, choose another one.")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (shape, kind) in _layout(count, PICTURE_SIDE).items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape).flush()  # type: ignore[no-untyped-call]
        np.save(folder / _DONE, np.zeros(count, np.bool_))
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror}; choose another folder.") from error
    write_whole(settings, (json.dumps(wanted, indent=1) + "\n").encode())


def load_pictures(folder: Path) -> Pictures:
    """The finished pictures of a folder, mapped read-only.

    Raises:
        SettingsError: there are none, or the folder is damaged.
    """
    if not (folder / _SETTINGS).is_file():
        raise SettingsError(
            f"There are no pictures in {folder}, draw some: python -m dir_core synthetic pictures {folder}"
        )
    done = _open_array(folder / _DONE, "r")
    finished = len(done) if done.all() else int(np.argmin(done))
    names = [each.name for each in fields(Pictures)]
    return Pictures(**{name: _open_array(folder / f"{name}.npy", "r")[:finished] for name in names})


def _open_array(path: Path, mode: Literal["r", "r+"]) -> Array:
    try:
        array: Array = np.load(path, mmap_mode=mode)
    except (OSError, ValueError, EOFError) as error:
        raise SettingsError(f"{path} is missing or damaged; remove its folder and draw the pictures again.") from error
    return array


def write_contact_sheet(path: Path, series: Series, count: int = 48) -> None:
    """Write the first pictures of a series as one picture to look at.

    Raises:
        RendererError: there is no OpenGL to draw with.
        OutputError: the file cannot be written.
    """
    with Renderer() as renderer:
        painter = Painter(renderer, series)
        cells = [painter.draw(number)[1].image for number in range(0, count * PICTURES_OF_HANDS, PICTURES_OF_HANDS)]
    write_sheet(path, cells, columns=8)


def write_clip(
    movie: Path,
    models: Mapping[Side, HandModel],
    kind: Kind,
    view: View,
    *,
    seed: int = 0,
    skin: int | None = None,
    seconds: float = 2.5,
    frame_rate: float = 30.0,
    image_size: tuple[int, int] = (640, 480),
) -> Take:
    """Draw a clip as a movie, and its truth beside it as a Take (`movie` with the suffix .truth.npz).

    The confidence of the truth is 1 where a key point is visible, else 0; `observed` where the hand is in the picture.

    Raises:
        RendererError: there is no OpenGL to draw with.
        OutputError: a file cannot be written.
    """
    hands = sample_clip(np.random.default_rng(seed), models, kind, view, seconds, frame_rate, image_size)
    truths = []
    with Renderer() as renderer, MovieWriter(movie, frame_rate) as writer:
        for picture in render_clip(renderer, hands, models, seed, skin):
            writer.write(picture.image)
            truths.append(picture)
    take = _truth_of(hands, truths, models, movie.name)
    save_take(take, movie.with_suffix(".truth.npz"))
    return take


def _truth_of(hands: TwoHands, pictures: list[Picture], models: Mapping[Side, HandModel], name: str) -> Take:
    """A clip's truth as a Take."""

    def track(side: Side) -> HandTrack:
        hand = SIDES.index(side)
        return HandTrack(
            rotation=make_continuous(hands.rotation[:, hand]).astype(np.float32),
            translation=hands.translation[:, hand].astype(np.float32),
            shape=hands.shape.astype(np.float32),
            scale=np.array([hands.scale], np.float32),
            keypoints_2d=np.stack([each.keypoints_2d[hand] for each in pictures]),
            keypoints_3d=np.stack([each.keypoints_3d[hand] for each in pictures]),
            confidence=np.stack([each.visible[hand] for each in pictures]).astype(np.float32),
            observed=np.stack([each.present[hand] for each in pictures]),
        )

    source = {"name": name, "size": list(hands.image_size), "frame_rate": hands.frame_rate, "frame_count": len(hands)}
    return Take(
        meta={
            "schema": SCHEMA,
            "program": f"two-hand-capture {__version__}",
            "source": source,
            "estimator": {"name": "truth", "licence": "CC0-1.0", "weights": ""},
            "hand_model": describe_models(models),
            "settings": {"kind": hands.kind, "view": hands.view},
            "history": [],
        },
        time=np.arange(len(hands)) / hands.frame_rate,
        frame=np.arange(len(hands)),
        camera_matrix=hands.camera_matrix.astype(np.float32),
        image_size=np.array(hands.image_size, np.int64),
        left=track("left"),
        right=track("right"),
    )
