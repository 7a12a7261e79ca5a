"""Frames by time stamp: every picture of tests/data/footage carries its number, so that time and order are known."""

import functools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from dir_core.errors import FootageError, SettingsError
from dir_core.footage import Frame, open_footage

CLIPS = Path(__file__).parents[1] / "data" / "footage"


def read_number(image: np.ndarray) -> int:
    """The number that make_footage.py drew into a picture."""
    height, width = image.shape[:2]
    cells = [image[height // 8, (2 * bit + 1) * width // 16].mean() > 128 for bit in range(8)]
    return sum(int(white) << bit for bit, white in enumerate(cells))


def read_all(path: Path, *args: float | None, **settings: float) -> list[Frame]:
    with open_footage(path, *args, **settings) as footage:
        return list(footage)


@pytest.mark.parametrize(
    ("name", "count", "step"),
    [
        ("constant_25.mp4", 25, 1 / 25),
        ("ntsc_2997.mp4", 30, 1001 / 30000),
        ("b_frames_late_start.mp4", 30, 1 / 25),
        ("b_frames_late_start.mkv", 30, 1 / 25),
    ],
)
def test_constant_rate_gives_every_picture_at_its_time(name: str, count: int, step: float):
    frames = read_all(CLIPS / name)
    assert [frame.index for frame in frames] == list(range(count))
    assert [read_number(frame.image) for frame in frames] == list(range(count))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(count) * step, atol=1e-3)


def test_variable_rate_keeps_time_stamps():
    frames = read_all(CLIPS / "variable_rate.mp4")
    truth = [0.04 * number if number < 10 else 0.4 + 0.12 * (number - 10) for number in range(20)]
    assert [read_number(frame.image) for frame in frames] == list(range(20))
    np.testing.assert_allclose([frame.time for frame in frames], truth, atol=1e-3)
    info = open_footage(CLIPS / "variable_rate.mp4").info
    assert info.variable_rate
    assert info.duration == pytest.approx(1.52, abs=0.01)


def test_info_states_what_the_container_states():
    info = open_footage(CLIPS / "ntsc_2997.mp4").info
    assert (info.size, info.frame_count, info.variable_rate, info.name) == ((64, 48), 30, False, "ntsc_2997.mp4")
    assert info.frame_rate == pytest.approx(30000 / 1001)
    assert info.duration == pytest.approx(30 * 1001 / 30000, abs=1e-3)
    assert len(info.content_hash) == 64


def test_rotated_footage_comes_upright():
    with open_footage(CLIPS / "rotated_90.mp4") as footage:
        frame = next(iter(footage))
    assert footage.info.size == (48, 64)
    assert frame.image.shape == (64, 48, 3)
    # The block that was drawn under the strip at the top left lies at the bottom left after the turn.
    white = np.argwhere(frame.image[..., 0] > 220)
    assert white[:, 0].min() > 40
    assert 8 < white[:, 1].mean() < 24


def test_odd_size_is_kept():
    frames = read_all(CLIPS / "odd_size.mp4")
    assert open_footage(CLIPS / "odd_size.mp4").info.size == (67, 49)
    assert {frame.image.shape for frame in frames} == {(49, 67, 3)}


def test_one_frame():
    (frame,) = read_all(CLIPS / "one_frame.mp4")
    assert (frame.index, frame.time) == (0, 0.0)


def test_a_range_keeps_numbers_and_times_of_the_whole():
    frames = read_all(CLIPS / "constant_25.mp4", 0.2, 0.4)
    assert [frame.index for frame in frames] == [5, 6, 7, 8, 9, 10]
    assert [read_number(frame.image) for frame in frames] == [5, 6, 7, 8, 9, 10]
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(5, 11) * 0.04, atol=1e-3)


@pytest.mark.parametrize(("step", "numbers"), [(1, range(5, 20)), (2, range(5, 20, 2)), (7, (5, 12, 19)), (99, (5,))])
def test_a_step_leaves_out_frames_of_the_range(step: int, numbers: Sequence[int]):
    for path in (CLIPS / "constant_25.mp4", CLIPS / "variable_rate.mp4"):
        times = [frame.time for frame in read_all(path)]
        frames = read_all(path, times[5], times[19], step=step)
        assert [frame.index for frame in frames] == list(numbers)
        assert [read_number(frame.image) for frame in frames] == list(numbers)
        assert [frame.time for frame in frames] == [times[number] for number in numbers]


def test_a_step_through_pictures():
    frames = read_all(CLIPS / "sequence", 0.05, step=2, frame_rate=20.0)
    assert [frame.index for frame in frames] == [1, 3, 5]
    assert [read_number(frame.image) for frame in frames] == [2, 4, 6]
    assert [frame.time for frame in frames] == [0.05, 0.15, 0.25]


def test_a_step_that_makes_no_sense():
    with pytest.raises(SettingsError, match="A step of 0 frames"):
        open_footage(CLIPS / "constant_25.mp4", step=0)


def read_and_spoil(path: Path, seen: list[int], spoil: Callable[[], object]) -> None:
    with open_footage(path) as footage:
        for frame in footage:
            seen.append(read_number(frame.image))
            if len(seen) == 1:
                spoil()


def test_footage_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Decoders make pictures of cut files too, so nothing that is read after the change may be given."""
    monkeypatch.setattr("dir_core.footage._QUEUE_LENGTH", 1)
    video, pictures = tmp_path / "clip.mp4", tmp_path / "pictures"
    shutil.copy(CLIPS / "constant_25.mp4", video)
    shutil.copytree(CLIPS / "sequence", pictures)
    last = sorted(pictures.iterdir())[-1]
    for path, changed in ((video, video), (pictures, last)):
        whole = changed.read_bytes()
        for spoilt in (whole[: len(whole) // 3], whole + b"more"):
            seen: list[int] = []
            with pytest.raises(FootageError, match="was changed while") as error:
                read_and_spoil(path, seen, functools.partial(changed.write_bytes, spoilt))
            assert str(changed) in str(error.value)
            assert seen == list(range(seen[0], seen[0] + len(seen)))
            assert len(seen) < 6
            changed.write_bytes(whole)
            assert len(read_all(path)) >= 6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no open file")
def test_an_open_video_may_be_deleted(tmp_path: Path):
    video = Path(shutil.copy(CLIPS / "constant_25.mp4", tmp_path))
    with open_footage(video) as footage:
        frames = iter(footage)
        seen = [next(frames).index]
        video.unlink()
        seen += [frame.index for frame in frames]
    assert seen == list(range(25))


def test_footage_can_be_read_twice():
    with open_footage(CLIPS / "constant_25.mp4") as footage:
        assert len(list(footage)) == len(list(footage)) == 25


def test_leaving_the_loop_early_ends_the_thread():
    with open_footage(CLIPS / "constant_25.mp4") as footage:
        for _ in footage:
            break
    assert not [thread for thread in threading.enumerate() if thread.name == "decode footage"]


def test_colour_is_rgb(tmp_path: Path):
    cv2.imwrite(str(tmp_path / "red.png"), np.full((8, 8, 3), (0, 0, 255), np.uint8))
    (frame,) = read_all(tmp_path)
    assert frame.image[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("name", ["", "shot_%04d.png", "shot_0001.png"])
def test_image_sequence(name: str):
    frames = read_all(CLIPS / "sequence" / name, frame_rate=12.0)
    assert [read_number(frame.image) for frame in frames] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(6) / 12)


def test_sequence_from_a_later_number():
    frames = read_all(CLIPS / "sequence" / "shot_0004.png")
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert len({read_number(frame.image) for frame in frames}) == 3


def test_a_missing_number_leaves_a_gap_in_time(tmp_path: Path):
    for number in (1, 2, 4):
        shutil.copy(CLIPS / "sequence" / f"shot_{number:04d}.png", tmp_path)
    with open_footage(tmp_path / "shot_%04d.png", frame_rate=10) as footage:
        frames = list(footage)
    np.testing.assert_allclose([frame.time for frame in frames], [0, 0.1, 0.3])
    assert footage.info.variable_rate
    assert "lacks 1 picture" in footage.warnings[0]


def test_folder_sorts_numbers_as_numbers(tmp_path: Path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"f{number}.png"), np.full((4, 4, 3), number, np.uint8))
    assert [frame.image[0, 0, 0] for frame in read_all(tmp_path)] == [1, 2, 10]


def test_content_hash_follows_content(tmp_path: Path):
    copy = tmp_path / "other name.mp4"
    shutil.copy(CLIPS / "constant_25.mp4", copy)
    assert open_footage(copy).info.content_hash == open_footage(CLIPS / "constant_25.mp4").info.content_hash
    assert open_footage(copy).info.content_hash != open_footage(CLIPS / "ntsc_2997.mp4").info.content_hash


def test_unicode_and_spaces_in_the_path(tmp_path: Path):
    folder = tmp_path / "Hände 手 100%d"
    folder.mkdir()
    shutil.copy(CLIPS / "one_frame.mp4", folder / "ünï %20 clip.mp4")
    shutil.copy(CLIPS / "sequence" / "shot_0001.png", folder / "bïld.png")
    assert len(read_all(folder / "ünï %20 clip.mp4")) == 1
    assert len(read_all(folder)) == 1


def test_trimmed_file_is_whole(tmp_path: Path):
    """A file cut by its edit list, as phones cut: the index holds more pictures than are shown."""
    data = bytearray((CLIPS / "constant_25.mp4").read_bytes())
    edit = data.index(b"elst")
    duration = int.from_bytes(data[edit + 12 : edit + 16], "big")
    data[edit + 12 : edit + 16] = (duration // 2).to_bytes(4, "big")
    (tmp_path / "trimmed.mp4").write_bytes(data)
    with open_footage(tmp_path / "trimmed.mp4") as footage:
        frames = list(footage)
    assert len(frames) in (12, 13)
    assert footage.info.duration == pytest.approx(0.5, abs=0.02)
    assert not footage.warnings


# --- what cannot be read says so in one sentence -------------------------------------------------------------


def complaint(path: Path) -> str:
    with pytest.raises(FootageError) as caught:
        read_all(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_missing_file(tmp_path: Path):
    assert "no footage" in complaint(tmp_path / "nothing.mp4")
    with pytest.raises(FootageError, match="no footage"):
        open_footage(tmp_path / "no folder", frame_rate=24.0)


def test_missing_sequence(tmp_path: Path):
    assert "No pictures" in complaint(tmp_path / "shot_%04d.png")


def test_folder_without_pictures(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no picture")
    assert "no pictures" in complaint(tmp_path)


def test_text_named_mp4(tmp_path: Path):
    (tmp_path / "clip.mp4").write_text("This is not a video.\n" * 20)
    assert "text file" in complaint(tmp_path / "clip.mp4")


def test_random_bytes_named_mp4(tmp_path: Path):
    (tmp_path / "clip.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not a video" in complaint(tmp_path / "clip.mp4")


def test_empty_file(tmp_path: Path):
    (tmp_path / "clip.mp4").touch()
    assert "is empty" in complaint(tmp_path / "clip.mp4")


def test_sound_only():
    assert "sound but no pictures" in complaint(CLIPS / "audio_only.m4a")


def test_cut_file_without_index():
    assert "cut off" in complaint(CLIPS / "truncated_index_lost.mp4")


def test_cut_file_with_index_names_the_last_good_time_and_the_way_out():
    sentence = complaint(CLIPS / "truncated_index_first.mp4")
    last = float(sentence.split("last good frame is at ")[1].split(" s")[0])
    assert 0.5 < last < 2.0
    end = float(sentence.split("set the end to ")[1].split(" s")[0])
    assert len(read_all(CLIPS / "truncated_index_first.mp4", None, end)) > 10


def test_damaged_picture_in_a_sequence(tmp_path: Path):
    shutil.copy(CLIPS / "sequence" / "shot_0001.png", tmp_path)
    (tmp_path / "shot_0002.png").write_bytes(b"no picture")
    with pytest.raises(FootageError, match="shot_0002"):
        read_all(tmp_path)


def test_sequence_of_two_sizes(tmp_path: Path):
    shutil.copy(CLIPS / "sequence" / "shot_0001.png", tmp_path)
    cv2.imwrite(str(tmp_path / "shot_0002.png"), np.zeros((5, 7, 3), np.uint8))
    with pytest.raises(FootageError, match="7 x 5"):
        read_all(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_forbidden_file(tmp_path: Path):
    shutil.copy(CLIPS / "one_frame.mp4", tmp_path / "clip.mp4")
    (tmp_path / "clip.mp4").chmod(0)
    assert "not allowed" in complaint(tmp_path / "clip.mp4")


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="range"):
        open_footage(CLIPS / "constant_25.mp4", 0.5, 0.2)
    with pytest.raises(SettingsError, match="frame rate"):
        open_footage(CLIPS / "sequence", frame_rate=0)
    with pytest.raises(SettingsError, match="own time stamps"):
        open_footage(CLIPS / "constant_25.mp4", frame_rate=25)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    for name in ("truncated_index_first.mp4", "truncated_index_lost.mp4", "audio_only.m4a"):
        complaint(CLIPS / name)
    assert capfd.readouterr() == ("", "")
