"""Many clips: which they are, what is captured, kept, gone on with and told; with real processes that are killed."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from dir_core.batch.clips import Clip, find_clips, is_batch, name_takes
from dir_core.batch.finished import identify
from dir_core.batch.local import LocalEngine
from dir_core.batch.run import Batch, LostError, Row
from dir_core.batch.table import make_table
from dir_core.capture_settings import CaptureSettings
from dir_core.cli import main
from dir_core.errors import SettingsError
from dir_core.take import load_take, save_take
from dir_core.worker.job import EventLog, run_job
from dir_core.worker.protocol import Event, EventReader, JobError

ROOT = Path(__file__).parents[2]
FOOTAGE = ROOT / "tests" / "data" / "footage"
DEMO = ROOT / "blender_assets" / "demo" / "two_hands.mp4"

SECONDS = 240
"""After this a batch in a process is killed; it takes 10."""


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def write_clip(path: Path, first: int, frames: int) -> Path:
    """A clip of both hands from the demonstration clip."""
    reader = cv2.VideoCapture(str(DEMO))
    pictures = [reader.read()[1] for _ in range(first + frames)][first:]
    size = pictures[0].shape[1], pictures[0].shape[0]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- which clips -------------------------------------------------------------------------------------------------


def names_of(inputs: list[Path], output: Path) -> list[tuple[str, str]]:
    return [(clip.footage.name, clip.name) for clip in find_clips(inputs, output)]


def test_a_folder_gives_its_videos_and_picture_folders_in_the_order_of_people(tmp_path: Path) -> None:
    touch(tmp_path, "take 10.mp4", "take 2.MOV", "notes.md", "thumb.jpg", ".hidden.mp4", "take 3/b.png", "empty/x.md")
    touch(tmp_path, "takes/sheet.png", "deeper/still deeper/a.png")
    expected = [("take 2.MOV", "take 2"), ("take 3", "take 3"), ("take 10.mp4", "take 10")]
    assert names_of([tmp_path], tmp_path / "takes") == expected


def test_a_list_names_footage_beside_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b #2.mp4", "pictures/0001.png", "day 1/c.mp4", "day 1/d.mp4")
    (tmp_path / "clips.txt").write_bytes(
        "\ufeff# the first day\r\n\r\na.mp4\r\n  \"b #2.mp4\"  # quoted\r\n'pictures'\r\nday 1\r\na.mp4\r\n".encode()
    )
    names = [name for _, name in names_of([tmp_path / "clips.txt"], tmp_path)]
    assert names == ["a", "b #2", "pictures", "c", "d"]
    (tmp_path / "plain.txt").write_text(f"b #2.mp4\n{tmp_path / 'a.mp4'}\nnot there.mp4\npictures/%04d.png\n")
    expected = [("b #2.mp4", "b #2"), ("a.mp4", "a"), ("not there.mp4", "not there"), ("%04d.png", "pictures")]
    assert names_of([tmp_path / "plain.txt"], tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("# nothing\n", "names no footage"), ('"a.mp4\n', "Line 1 of .* quotation mark"), ("\xff", "as UTF-8 text")],
)
def test_lists_that_cannot_be_used(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "clips.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=complaint):
        find_clips([tmp_path / "clips.txt"], tmp_path)


@pytest.mark.parametrize(
    ("footages", "names"),
    [
        (["a.mp4", "b.mp4"], ["a", "b"]),
        (["shot.mp4", "shot.mov"], ["shot_mp4", "shot_mov"]),
        (["monday/shot.mp4", "tuesday/shot.mp4", "other.mp4"], ["monday_shot", "tuesday_shot", "other"]),
        (["1/day/shot.mp4", "2/day/shot.mp4"], ["1_day_shot", "2_day_shot"]),
        (["a/Shot.mp4", "b/shot.mp4"], ["a_Shot", "b_shot"]),
        (["a/x.mp4", "a/x.mov", "b/x.mov"], ["x_mp4", "x_mov", "x"]),
        (["a_b/c.mp4", "x/c.mp4", "x/a_b_c.mp4"], ["footage_a_b_c", "x_c", "x_a_b_c"]),
        (["shot_0001.png", "walk.%04d.png"], ["shot", "walk"]),
        (["v1.2.final.mp4"], ["v1.2.final"]),
    ],
)
def test_takes_have_names_that_tell_them_apart(footages: list[str], names: list[str]) -> None:
    found = name_takes([Path("/footage") / each for each in footages])
    assert len({name.casefold() for name in found}) == len(found)
    assert found == names


def test_one_video_into_one_take_is_no_batch(tmp_path: Path) -> None:
    video, _, text = touch(tmp_path, "a.mp4", "pictures/1.png", "clips.txt")
    for single in (video, tmp_path / "pictures", tmp_path / "missing.mp4", tmp_path / "missing.txt"):
        assert not is_batch([single], tmp_path / "take.npz")
    assert is_batch([video], tmp_path)
    assert is_batch([video, video], tmp_path / "new")
    assert is_batch([text], tmp_path / "new")
    assert is_batch([tmp_path], tmp_path / "new")


# --- what becomes of them ----------------------------------------------------------------------------------------


class HereEngine:
    """Captures in this process, so that a test sees and disturbs what happens."""

    jobs = 1

    def __init__(self, disturb: Callable[[Path], JobError | None] = lambda job: None):
        self.disturb = disturb
        self.captured: list[str] = []

    def capture(self, folder: Path, on_event: Callable[[Event], None], stop: threading.Event) -> JobError | None:
        self.captured.append(json.loads((folder / "request.json").read_text())["footage"])
        error = self.disturb(folder)
        if error is not None:
            return error
        run_job(folder, EventLog(folder))
        events = EventReader(folder).read()
        for event in events:
            on_event(event)
        return events[-1].error

    def close(self) -> None:
        pass


known = functools.cache(identify)


def capture_here(
    footage: Path, output: Path, settings: CaptureSettings | None = None, engine: HereEngine | None = None
) -> list[Row]:
    settings = settings or CaptureSettings()
    output.mkdir(exist_ok=True)
    batch = Batch(find_clips([footage], output), settings, output, engine or HereEngine(), known(settings))
    batch.run(lambda _: None, period=0.02)
    return batch.rows


@pytest.fixture
def two_clips(tmp_path: Path) -> Path:
    """Two different clips without hands, a frame and two seconds."""
    folder = tmp_path / "footage"
    folder.mkdir()
    shutil.copy(FOOTAGE / "one_frame.mp4", folder / "a.mp4")
    shutil.copy(FOOTAGE / "constant_25.mp4", folder / "b.mp4")
    return folder


def states(rows: list[Row]) -> list[str]:
    return [row.state for row in rows]


def test_what_is_finished_is_not_captured_again(two_clips: Path, tmp_path: Path) -> None:
    rows = capture_here(two_clips, tmp_path / "out")
    assert states(rows) == ["captured", "captured"]
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = HereEngine()
    rows = capture_here(two_clips, tmp_path / "out", engine=again)
    assert states(rows) == ["there already", "there already"]
    assert again.captured == []
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert sorted(before) == ["a.npz", "b.npz"]
    assert [row.frames for row in rows] == [1, len(load_take(tmp_path / "out" / "b.npz"))]


def test_footage_that_moved_is_known_by_its_content(two_clips: Path, tmp_path: Path) -> None:
    capture_here(two_clips, tmp_path / "out")
    two_clips.rename(tmp_path / "moved")
    assert states(capture_here(tmp_path / "moved", tmp_path / "out")) == ["there already"] * 2


def replace_footage(clips: Path, out: Path) -> CaptureSettings:
    shutil.copy(FOOTAGE / "odd_size.mp4", clips / "a.mp4")
    return CaptureSettings()


def choose_other_settings(clips: Path, out: Path) -> CaptureSettings:
    return CaptureSettings(hand_length=0.2, box=(0.0, 0.0, 50.0, 50.0))


def write_something_else(clips: Path, out: Path) -> CaptureSettings:
    (out / "a.npz").write_text("no take")
    return CaptureSettings()


def clean_in_place(clips: Path, out: Path) -> CaptureSettings:
    raw = out / "a.npz"
    raw.rename(out.parent / "raw.npz")
    assert run("clean", out.parent / "raw.npz", "-o", raw) == 0
    return CaptureSettings()


def change_weights(clips: Path, out: Path) -> CaptureSettings:
    take = load_take(out / "a.npz")
    estimator = {**take.meta["estimator"], "weights": "0" * 64}
    save_take(replace(take, meta={**take.meta, "estimator": estimator}), out / "a.npz")
    return CaptureSettings()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (replace_footage, "was captured from other footage"),
        (choose_other_settings, "was captured with other settings (box, hand length)"),
        (write_something_else, "is no take"),
        (clean_in_place, "is a clean take"),
        (change_weights, "was captured with other weights"),
    ],
)
def test_another_take_in_the_way_is_kept_and_told(
    change: Callable[[Path, Path], CaptureSettings], why: str, two_clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (two_clips / "b.mp4").unlink()
    capture_here(two_clips, out)
    settings = change(two_clips, out)
    kept = (out / "a.npz").read_bytes()
    (row,) = capture_here(two_clips, out, settings)
    assert row.state == "captured"
    assert row.take == out / "a-2.npz"
    assert row.sentences[0] == f"a.npz {why} and is kept, this one is a-2.npz."
    assert (out / "a.npz").read_bytes() == kept
    (row,) = capture_here(two_clips, out, settings)
    assert (row.state, row.take) == ("there already", out / "a-2.npz")
    assert files_in(out) == ["a-2.npz", "a.npz"]


def test_a_second_take_gets_no_name_that_is_another_clips_own(two_clips: Path, tmp_path: Path) -> None:
    (two_clips / "b.mp4").rename(two_clips / "a-2.mp4")
    capture_here(two_clips, tmp_path / "out")
    capture_here(two_clips, tmp_path / "out", CaptureSettings(step=2))
    assert files_in(tmp_path / "out") == ["a-2-2.npz", "a-2.npz", "a-3.npz", "a.npz"]
    for name, footage in (("a-3", "a.mp4"), ("a-2-2", "a-2.mp4")):
        assert load_take(tmp_path / "out" / f"{name}.npz").meta["source"]["name"] == footage


def test_a_take_that_appears_meanwhile_is_not_written_over(two_clips: Path, tmp_path: Path) -> None:
    (two_clips / "b.mp4").unlink()

    def write_the_same_name(job: Path) -> None:
        (tmp_path / "out" / "a.npz").write_text("of somebody else")

    (row,) = capture_here(two_clips, tmp_path / "out", engine=HereEngine(write_the_same_name))
    assert row.take == tmp_path / "out" / "a-2.npz"
    assert (tmp_path / "out" / "a.npz").read_text() == "of somebody else"
    assert len(load_take(row.take)) == 1


def test_a_clip_that_fails_stops_no_other_and_leaves_nothing(two_clips: Path, tmp_path: Path) -> None:
    (two_clips / "a.mp4").write_text("This is no video at all.\n")
    rows = capture_here(two_clips, tmp_path / "out")
    assert states(rows) == ["failed", "captured"]
    assert "is a text file and not a video" in rows[0].sentences[0]
    assert files_in(tmp_path / "out") == ["b.npz"]


def test_a_defect_is_one_row_and_its_log_stays(two_clips: Path, tmp_path: Path) -> None:
    def fail(job: Path) -> JobError | None:
        return (
            JobError("defect", "A defect.")
            if json.loads((job / "request.json").read_text())["footage"].endswith("a.mp4")
            else None
        )

    rows = capture_here(two_clips, tmp_path / "out", engine=HereEngine(fail))
    assert states(rows) == ["failed", "captured"]
    job = tmp_path / "out" / ".a.npz.job" / "capture"
    assert rows[0].sentences == (f"A defect. The log is {job / 'worker.log'}.",)
    assert job.is_dir()
    assert states(capture_here(two_clips, tmp_path / "out")) == ["captured", "there already"]
    assert files_in(tmp_path / "out") == ["a.npz", "b.npz"]


def test_a_lost_process_is_tried_again_but_not_for_ever(two_clips: Path, tmp_path: Path) -> None:
    def lose(times: int) -> Callable[[Path], None]:
        left = [times]

        def disturb(job: Path) -> None:
            left[0] -= 1
            if left[0] >= 0:
                raise LostError("It is gone.")

        return disturb

    (two_clips / "b.mp4").unlink()
    (row,) = capture_here(two_clips, tmp_path / "out", engine=(engine := HereEngine(lose(2))))
    assert (row.state, len(engine.captured)) == ("captured", 3)
    (row,) = capture_here(two_clips, tmp_path / "other", engine=HereEngine(lose(9)))
    assert row.state == "failed"
    assert row.sentences[0].startswith("It is gone. It was tried 3 times. The log is ")


def test_what_a_stopped_single_capture_left_is_gone_on_with(
    two_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    out.mkdir()
    (two_clips / "a.mp4").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("dir_core.capture.fit_hands", interrupt)
        assert run("capture", two_clips / "b.mp4", "-o", out / "b.npz") == 130
    assert files_in(out) == [".b.npz.parts"]
    with monkeypatch.context() as patch:
        patch.setattr("dir_core.detection.tracker.HandTracker.follow", interrupt)  # every frame is known already
        assert states(capture_here(two_clips, out)) == ["captured"]
    assert files_in(out) == ["b.npz"]


def test_a_clip_of_another_batch_is_left_alone_until_it_is_finished(two_clips: Path, tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def wait(job: Path) -> None:
        inside.set()
        assert go_on.wait(SECONDS)

    results: dict[str, list[Row]] = {}
    first, second = HereEngine(wait), HereEngine()
    slow = threading.Thread(
        target=lambda: results.update(first=capture_here(two_clips, tmp_path / "out", engine=first))
    )
    slow.start()
    assert inside.wait(SECONDS)  # the first batch holds a.mp4
    other = threading.Thread(
        target=lambda: results.update(second=capture_here(two_clips, tmp_path / "out", engine=second))
    )
    other.start()
    give_up = time.monotonic() + SECONDS
    while not (tmp_path / "out" / "b.npz").exists():
        assert time.monotonic() < give_up
        time.sleep(0.02)
    go_on.set()
    slow.join()
    other.join()
    assert [Path(path).name for path in first.captured] == ["a.mp4"]
    assert [Path(path).name for path in second.captured] == ["b.mp4"]
    assert states(results["first"]) == ["captured", "there already"]
    assert states(results["second"]) == ["there already", "captured"]
    assert files_in(tmp_path / "out") == ["a.npz", "b.npz"]


def test_the_table_names_everything() -> None:
    clip = Clip(Path("/footage/a.mp4"), "a")
    take = Path("/out/a.npz")
    rows = [
        Row(clip, "captured", take, 360, 6.0, 0.995, ("First sentence.", "Second sentence.")),
        Row(clip, "there already", take, 25, 0.0, 1.0),
        Row(clip, "failed", sentences=("There is no footage.",)),
    ]
    lines = [line.split("  ") for line in make_table(rows).splitlines()]
    words = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert words == [
        ["clip", "frames", "seconds", "frames/s", "both hands", "state"],
        ["a", "360", "6.0", "60", "99.5%", "captured", "First sentence."],
        ["Second sentence."],
        ["a", "25", "100.0%", "there already"],
        ["a", "failed", "There is no footage."],
    ]


# --- the command, with processes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips with hands: one gets behind its first part, one is short."""
    folder = tmp_path_factory.mktemp("clips")
    write_clip(folder / "long.mp4", 0, 120)
    write_clip(folder / "short.mp4", 20, 12)
    return folder


@pytest.fixture(scope="module")
def one_after_the_other(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("alone")
    for clip in find_clips([clips], folder):
        assert run("capture", clip.footage, "-o", folder / f"{clip.name}.npz") == 0
    return takes_in(folder)


def takes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


@contextlib.contextmanager
def batch(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "dir_core", "capture", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_part(job: Path, process: "subprocess.Popen[str]") -> int:
    """The process that captures, once it has finished a part."""
    give_up = time.monotonic() + SECONDS
    while not list(job.glob("chunks/*.npz")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return next(event.pid for event in EventReader(job).read() if event.pid)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_end(process: int) -> None:
    give_up = time.monotonic() + 10
    while is_alive(process):
        assert time.monotonic() < give_up, "a process outlived its batch"
        time.sleep(0.05)


def test_the_command_gives_what_single_captures_give(
    clips: Path, one_after_the_other: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert (
        run(
            "capture", clips, FOOTAGE / "one_frame.mp4", "-o", tmp_path / "new" / "out", "--jobs", 2, "--report", report
        )
        == 0
    )
    takes = takes_in(tmp_path / "new" / "out")
    no_hands = takes.pop("one_frame.npz")
    assert takes == one_after_the_other
    assert len(no_hands) > 0
    assert files_in(tmp_path / "new" / "out") == ["long.npz", "one_frame.npz", "short.npz"]
    rows = json.loads(report.read_text())["clips"]
    assert [(row["clip"], row["state"], row["frames"]) for row in rows] == [
        ("long", "captured", 120),
        ("short", "captured", 12),
        ("one_frame", "captured", 1),
    ]
    assert rows[0]["both_observed"] > 0.9
    assert rows[2]["sentences"] == [
        "No hand was found in one_frame.mp4; check that hands are visible and larger than 40 pixels."
    ]
    said = capsys.readouterr()
    assert "3 clips: 3 captured" in said.out
    assert said.err.count("\n") == 3  # one line a clip where nobody looks on


def test_failed_clips_have_an_exit_code_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clips.txt").write_text(f"nowhere.mp4\n{FOOTAGE / 'one_frame.mp4'}\n")
    assert run("capture", tmp_path / "clips.txt", "-o", tmp_path / "out") == 3
    said = capsys.readouterr()
    assert "There is no footage at" in said.out
    assert said.err.splitlines()[-1] == (
        "error: 1 of 2 clips failed, put right what the table says and run this again."
    )
    assert files_in(tmp_path / "out") == ["one_frame.npz"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--jobs", "0"], "give 1 or more as --jobs"),
        (["--address", "auto"], "give also --engine ray"),
        (["--estimator", "magic"], "There is no estimator 'magic'"),
        (["--hand-model", "no such folder"], "no such folder"),
        (["--estimator", "dir"], "needs weights"),
    ],
)
def test_what_cannot_work_is_told_before_anything_begins(
    options: list[str], complaint: str, two_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("capture", two_clips, "-o", tmp_path / "out", *options) == 2
    said = capsys.readouterr()
    assert complaint in said.err
    assert (said.err.count("\n"), said.out) == (1, "")
    assert not (tmp_path / "out").exists() or files_in(tmp_path / "out") == []


def test_many_clips_do_not_fit_into_one_take(
    two_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("capture", two_clips, "-o", tmp_path / "take.npz") == 2
    assert "names one take, give a folder" in capsys.readouterr().err
    assert run("capture", two_clips / "a.mp4", "-o", tmp_path / "take.npz", "--jobs", "2") == 2
    assert "are for many clips" in capsys.readouterr().err
    assert not (tmp_path / "take.npz").exists()


def test_without_ray_one_sentence_says_how_to_get_it(
    two_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert run("capture", two_clips, "-o", tmp_path / "out", "--engine", "ray") == 2
    message = capsys.readouterr().err
    assert message.startswith("error: --engine ray needs Ray")
    assert "pip install ray" in message
    assert files_in(tmp_path / "out") == []


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing on Windows")
def test_ctrl_c_ends_the_processes_and_the_same_command_goes_on(
    clips: Path, one_after_the_other: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with batch(clips, "-o", out, "--jobs", "2") as process:
        worker = wait_for_part(out / ".long.npz.job" / "capture", process)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 130, said
    wait_for_end(worker)
    assert "Stopped; the same command goes on from here." in said
    assert "Traceback" not in said
    assert (out / ".long.npz.job" / "capture" / "chunks").is_dir()
    assert run("capture", clips, "-o", out, "--jobs", "2") == 0
    assert takes_in(out) == one_after_the_other
    assert files_in(out) == sorted(one_after_the_other)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_killed_worker_is_replaced_and_no_worker_outlives_a_killed_batch(
    clips: Path, one_after_the_other: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = out / ".long.npz.job" / "capture"
    with batch(clips, "-o", out, "--jobs", "1") as process:
        os.kill(wait_for_part(job, process), signal.SIGKILL)
        said = process.communicate(timeout=SECONDS)[0]
        assert process.returncode == 0, said
    assert takes_in(out) == one_after_the_other
    shutil.rmtree(out)
    with batch(clips, "-o", out, "--jobs", "1") as process:
        worker = wait_for_part(job, process)
        process.kill()
        wait_for_end(worker)
    assert run("capture", clips, "-o", out) == 0
    assert takes_in(out) == one_after_the_other


def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dir_core.batch.local.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    for jobs, threads in ((1, "8"), (3, "2"), (8, "1"), (20, "1")):
        environment = LocalEngine(jobs).environment
        assert (environment["OMP_NUM_THREADS"], environment["OPENBLAS_NUM_THREADS"]) == (threads, "1")
