"""The one data file: what is written comes back, and what is not a take is refused with one sentence."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dir_core.conventions import SIDES
from dir_core.errors import OutputError, TakeError
from dir_core.take import SCHEMA, HandTrack, Take, load_take, save_take

Arrays = dict[str, NDArray[Any]]

FRAMES = 5


def make_track(seed: int, frames: int = FRAMES) -> HandTrack:
    rng = np.random.default_rng(seed)
    rotation = rng.normal(size=(frames, 16, 4))
    observed = np.ones(frames, bool)
    observed[1:2] = False
    return HandTrack(
        rotation=rotation / np.linalg.norm(rotation, axis=-1, keepdims=True),
        translation=rng.normal(size=(frames, 3)),
        shape=rng.normal(size=10),
        scale=np.array([1.1]),
        keypoints_2d=rng.uniform(0, 640, size=(frames, 21, 2)),
        keypoints_3d=rng.normal(size=(frames, 21, 3)),
        confidence=rng.uniform(size=(frames, 21)) * observed[:, None],
        observed=observed,
    )


def make_take(frames: int = FRAMES) -> Take:
    return Take(
        meta={
            "schema": SCHEMA,
            "program": "0.1.0",
            "source": {"name": "手のビデオ.mp4", "frame_rate": 29.97},
            "estimator": {"name": "landmarks"},
            "hand_model": {"id": "open"},
            "settings": {"mirrored": False},
            "history": [],
        },
        time=0.5 + np.arange(frames) / 29.97,
        frame=np.arange(frames),
        camera_matrix=np.array([[554.0, 0, 320], [0, 554, 240], [0, 0, 1]]),
        image_size=np.array([640, 480]),
        left=make_track(1, frames),
        right=make_track(2, frames),
    )


@pytest.fixture
def arrays(tmp_path: Path) -> Arrays:
    """The arrays of a good file, to be spoilt by a test."""
    save_take(make_take(), tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def load_arrays(arrays: Arrays, folder: Path) -> Take:
    path = folder / "spoilt.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return load_take(path)


def assert_one_sentence(error: BaseException, path: Path | None = None) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert path is None or str(path) in text


@pytest.mark.parametrize("frames", [0, 1, FRAMES])
def test_a_take_comes_back_as_it_was_written(tmp_path: Path, frames: int) -> None:
    take = make_take(frames)
    save_take(take, tmp_path / "clip.npz")
    again = load_take(tmp_path / "clip.npz")
    assert len(again) == frames
    assert again.meta == take.meta
    assert np.array_equal(again.time, take.time), "time stays float64: a float32 drifts over an hour"
    assert np.array_equal(again.frame, take.frame)
    assert np.array_equal(again.image_size, take.image_size)
    assert np.allclose(again.camera_matrix, take.camera_matrix)
    for side in SIDES:
        written, read = take.hand(side), again.hand(side)
        for name in vars(written):
            assert np.allclose(getattr(read, name), getattr(written, name), atol=1e-6), f"{side}/{name}"
            assert getattr(read, name).shape == getattr(written, name).shape
        assert read.rotation.dtype == np.float32
        assert read.observed.dtype == np.bool_


def test_left_and_right_are_not_confused(tmp_path: Path) -> None:
    take = make_take()
    save_take(take, tmp_path / "clip.npz")
    again = load_take(tmp_path / "clip.npz")
    assert again.hand("left") is again.left
    assert np.allclose(again.left.translation, take.left.translation)
    assert not np.allclose(again.left.translation, take.right.translation)


def test_writing_twice_gives_the_same_arrays(tmp_path: Path) -> None:
    save_take(make_take(), tmp_path / "a.npz")
    save_take(load_take(tmp_path / "a.npz"), tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert a.files == b.files
        assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_the_file_is_the_documented_archive(arrays: Arrays) -> None:
    per_hand = {"rotation", "translation", "shape", "scale", "keypoints_2d", "keypoints_3d", "confidence", "observed"}
    clip = {"meta", "time", "frame", "camera_matrix", "image_size"}
    assert set(arrays) == clip | {f"{side}/{name}" for side in SIDES for name in per_hand}
    assert json.loads(str(arrays["meta"]))["schema"] == "two-hand-take/1"


def test_hidden_rows_are_those_that_the_last_step_names(tmp_path: Path) -> None:
    take = make_take()
    steps = [{"hidden": {"right": [[0, 4]]}}, {"step": "clean_up", "hidden": {"left": [[0, 0], [3, 4]]}}]
    save_take(replace(take, meta={**take.meta, "history": steps}), tmp_path / "clip.npz")
    again = load_take(tmp_path / "clip.npz")
    assert again.hidden("left").tolist() == [True, False, False, True, True]
    assert not again.hidden("right").any()
    assert not take.hidden("left").any()


def test_paths_in_any_script_and_with_spaces(tmp_path: Path) -> None:
    folder = tmp_path / "手 und Füße"
    folder.mkdir()
    save_take(make_take(), folder / "взять 🖐.npz")
    assert len(load_take(str(folder / "взять 🖐.npz"))) == FRAMES


def set_value(name: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    def spoil(arrays: Arrays) -> None:
        arrays[name][index] = value

    return spoil


def set_array(name: str, change: Callable[[NDArray[Any]], Any]) -> Callable[[Arrays], None]:
    def spoil(arrays: Arrays) -> None:
        arrays[name] = np.asarray(change(arrays[name]))

    return spoil


def remove(name: str) -> Callable[[Arrays], None]:
    def spoil(arrays: Arrays) -> None:
        del arrays[name]

    return spoil


def set_meta(**changes: Any) -> Callable[[Arrays], None]:
    def spoil(arrays: Arrays) -> None:
        meta = json.loads(str(arrays["meta"])) | changes
        arrays["meta"] = np.array(json.dumps({name: value for name, value in meta.items() if value is not None}))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            set_array("left/rotation", lambda a: a[:, :15]),
            r"left/rotation has shape \[5, 15, 4\] instead of \[5, 16, 4\]",
        ),
        (set_array("right/observed", lambda a: a[:-1]), r"right/observed has shape \[4\]"),
        (set_array("right/observed", lambda a: a.astype(np.float32)), "right/observed has type float32"),
        (set_array("frame", lambda a: a.astype(np.float64)), "frame has type float64"),
        (set_array("time", lambda a: a[None]), "time must have shape"),
        (set_array("left/scale", lambda a: -a), "left/scale is not positive"),
        (set_array("left/shape", lambda a: a[:9]), r"left/shape has shape \[9\]"),
        (set_value("left/translation", (2, 1), np.nan), "left/translation has values that are not finite"),
        (set_value("right/keypoints_2d", (0, 0, 0), np.inf), "right/keypoints_2d has values that are not finite"),
        (set_value("camera_matrix", (0, 0), np.nan), "camera_matrix has values that are not finite"),
        (set_value("time", 2, np.nan), "time has values that are not finite"),
        (set_value("time", 2, 0.0), "time does not increase"),
        (set_array("time", lambda a: np.full_like(a, 1.0)), "time does not increase"),
        (set_value("left/rotation", (3, 4), 0.0), "left/rotation has quaternions that are not unit"),
        (set_array("right/rotation", lambda a: a * 1.01), "right/rotation has quaternions that are not unit"),
        (set_value("right/confidence", (0, 0), 1.5), "right/confidence leaves 0..1"),
        (set_value("right/confidence", (0, 0), -0.1), "right/confidence leaves 0..1"),
        (remove("left/keypoints_3d"), "left/keypoints_3d is missing"),
        (remove("time"), "time must have shape"),
        (remove("image_size"), "image_size is missing"),
        (remove("meta"), "meta is missing"),
        (
            set_meta(schema="two-hand-take/2"),
            "its schema is 'two-hand-take/2' and this version reads 'two-hand-take/1'",
        ),
        (set_meta(schema=None), "its schema is None"),
        (set_meta(estimator=None, history=None), "meta lacks estimator, history"),
        (set_meta(history="cleaned"), "history is not a list of steps"),
        (set_meta(history=["cleaned"]), "history is not a list of steps"),
        (set_meta(history=[{"hidden": {"left": [[0, 5]]}}]), "hides frames that it does not have"),
        (set_meta(history=[{"hidden": {"third": []}}]), "hides frames that it does not have"),
        (set_meta(history=[{"hidden": {"left": [[True, 2]]}}]), "hides frames that it does not have"),
        (set_array("meta", lambda a: "{not json"), "meta is not JSON"),
        (set_array("meta", lambda a: "[]"), "meta is not a JSON object"),
        (set_array("meta", lambda a: 5.0), "meta is missing or not a text"),
    ],
)
def test_a_spoilt_take_is_refused_by_name(
    arrays: Arrays, tmp_path: Path, spoil: Callable[[Arrays], None], complaint: str
) -> None:
    spoil(arrays)
    with pytest.raises(TakeError, match=complaint) as caught:
        load_arrays(arrays, tmp_path)
    assert_one_sentence(caught.value, tmp_path / "spoilt.npz")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "executed"))


@pytest.mark.parametrize("name", ["left/shape", "meta", "something else"])
def test_a_pickled_object_is_refused_and_never_executed(arrays: Arrays, tmp_path: Path, name: str) -> None:
    arrays[name] = np.array([Bomb(tmp_path / "executed")], dtype=object)
    with pytest.raises(TakeError, match="pickled objects") as caught:
        load_arrays(arrays, tmp_path)
    assert_one_sentence(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_bare_pickle_is_refused_and_never_executed(tmp_path: Path) -> None:
    import pickle

    path = tmp_path / "bomb.npz"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    with pytest.raises(TakeError):
        load_take(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float) -> None:
    save_take(make_take(), tmp_path / "good.npz")
    data = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "half.npz"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(TakeError) as caught:
        load_take(path)
    assert_one_sentence(caught.value, path)


def test_every_flipped_byte_is_either_noticed_or_harmless(tmp_path: Path) -> None:
    """Damage on disk never shows as another kind of error than TakeError."""
    save_take(make_take(1), tmp_path / "good.npz")
    data = bytearray((tmp_path / "good.npz").read_bytes())
    path = tmp_path / "damaged.npz"
    noticed = 0
    for position in range(0, len(data), 41):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load_take(path)
        except TakeError:
            noticed += 1
    assert noticed > 0


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "not an array")
    np.save(tmp_path / "single.npy", np.zeros(3))
    np.savez(tmp_path / "foreign.npz", poses=np.zeros(3))
    for name in ("other.npz", "single.npy", "foreign.npz"):
        with pytest.raises(TakeError) as caught:
            load_take(tmp_path / name)
        assert_one_sentence(caught.value, tmp_path / name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TakeError, match="There is no take at"):
        load_take(tmp_path / "nowhere.npz")
    with pytest.raises(TakeError, match="is a folder"):
        load_take(tmp_path)


def test_a_take_that_would_not_load_is_not_written(tmp_path: Path) -> None:
    take = make_take()
    path = tmp_path / "clip.npz"
    save_take(take, path)
    before = path.read_bytes()
    broken = replace(take, left=replace(take.left, rotation=np.zeros((FRAMES, 16, 4))))
    with pytest.raises(TakeError, match="not unit"):
        save_take(broken, path)
    assert path.read_bytes() == before, "the good file stays"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.npz"], "nothing half-written is left"


def test_a_missing_folder_is_told_before_and_after_the_work(tmp_path: Path) -> None:
    from dir_core.take import check_output

    path = tmp_path / "missing" / "clip.npz"
    for write in (lambda: save_take(make_take(), path), lambda: check_output(path)):
        with pytest.raises(OutputError) as caught:
            write()
        assert_one_sentence(caught.value)
    with pytest.raises(OutputError, match="is a folder"):
        save_take(make_take(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_loading_does_not_depend_on_the_file_name(tmp_path: Path) -> None:
    save_take(make_take(), tmp_path / "clip.with.dots.take")
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.with.dots.take"], "no .npz is added silently"
    assert len(load_take(tmp_path / "clip.with.dots.take")) == FRAMES


def test_a_decompression_bomb_header_is_refused(arrays: Arrays, tmp_path: Path) -> None:
    """An array header may promise more than the machine has."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**60,)})
    path = tmp_path / "huge.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if name != "left/shape"})  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("left/shape.npy", header.getvalue())
    with pytest.raises(TakeError) as caught:
        load_take(path)
    assert_one_sentence(caught.value, path)
