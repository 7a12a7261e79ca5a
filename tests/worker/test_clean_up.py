"""The clean-up process and its client: the same takes as without a process, errors as answers, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from dir_core.clean import CleanUp, clean_take
from dir_core.clean_up.edits import Edit
from dir_core.clean_up.key_reduction import (
    KeyReduction,
    ReducedCurve,
    reduce_position_keys,
    reduce_rotation_keys,
)
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.conventions import SIDES
from dir_core.errors import OutputError, SettingsError
from dir_core.hand_model import open_hand_models
from dir_core.take import Take, load_take, save_take, take_digest
from dir_core.worker import clean_up
from dir_core.worker.clean_up_client import HOME_PREFIX, LOG, CleanUpClient, CleanUpRequest, read_answer
from tests.takes import make_raw_take

ROOT = Path(__file__).parents[2]
MODELS = open_hand_models()
PATIENCE = 60  # seconds after which a test has failed


def make_raw(path: Path, frames: int = 60, estimator: str = "landmarks", **meta: object) -> Take:
    raw = make_raw_take(MODELS, times=np.arange(frames) / 30, estimator=estimator)[0]
    save_take(replace(raw, meta={**raw.meta, **meta}), path)
    return load_take(path)


@pytest.fixture(scope="module")
def raw_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("Meine Takes") / "raw.npz"
    make_raw(path)
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanUpClient]:
    client = CleanUpClient(sys.executable, tmp_path_factory.mktemp("clean up"), [ROOT])
    yield client
    client.close()


@pytest.fixture
def make_client(tmp_path: Path) -> Iterator[Callable[..., CleanUpClient]]:
    made: list[CleanUpClient] = []

    def make(python: str = sys.executable, folder: Path = tmp_path, **options) -> CleanUpClient:
        made.append(CleanUpClient(python, folder, **{"paths": [ROOT], **options}))
        return made[-1]

    yield make
    for each in made:
        each.close()


def ask(client: CleanUpClient, request: CleanUpRequest):
    client.ask(request)
    answer = client.wait(PATIENCE)
    assert answer is not None, "no answer came"
    assert answer.request is request
    assert not client.is_busy
    return answer


def wait_for(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


def process_of(client: CleanUpClient) -> "subprocess.Popen[bytes]":
    assert client._process is not None
    return client._process


def one_sentence(text: str) -> bool:
    return (text[0].isupper() or text.startswith("/")) and text.endswith(".") and "\n" not in text


# Results


def test_answers_are_those_of_a_clean_up_without_a_process(client: CleanUpClient, raw_path: Path) -> None:
    raw = load_take(raw_path)
    for settings, edits in (
        (CleanUpSettings(), ()),
        (CleanUpSettings(fingers=2.0), ()),
        (CleanUpSettings(beyond="hide", fill=0.2), (Edit("drop", 20, 45, "left"), Edit("trust", 50, 60, weight=0.3))),
    ):
        answer = ask(client, CleanUpRequest(str(raw_path), settings, edits))
        assert answer.error == ""
        expected = clean_take(raw, MODELS, settings, edits, raw_path)
        assert take_digest(answer.take) == take_digest(expected.take)
        assert answer.sentences == tuple(expected.report.sentences())
        assert answer.reduced is None
        for side in SIDES:
            rows, hand = answer.rows[side], expected.take.hand(side)
            assert np.array_equal(rows.observed, hand.observed)
            assert rows.confidence == pytest.approx(hand.confidence.mean(axis=1))
            assert np.array_equal(rows.hidden, expected.take.hidden(side))
            assert np.array_equal(rows.exchanged, expected.corrected.repair.swapped)
    assert answer.rows["left"].hidden.sum() == 26


def test_problems_come_along(make_client: Callable[..., CleanUpClient], tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw.npz")
    hand = raw.left
    observed = hand.observed.copy()
    observed[20:35] = False
    blank = {
        name: getattr(hand, name) * observed.reshape(-1, *[1] * (getattr(hand, name).ndim - 1))
        for name in ("keypoints_2d", "keypoints_3d", "confidence")
    }
    save_take(replace(raw, left=replace(hand, observed=observed, **blank)), tmp_path / "raw.npz")
    client = make_client()
    (problem,) = ask(client, CleanUpRequest(str(tmp_path / "raw.npz"))).problems
    assert (problem.kind, problem.first, problem.last, problem.side) == ("lost", 30, 44, "left")
    judged = CleanUpRequest(str(tmp_path / "raw.npz"), edits=(Edit("drop", 30, 44, "left"),))
    assert ask(client, judged).problems == ()


@pytest.mark.parametrize("estimator", ["landmarks", "dir"])
def test_what_is_remembered_changes_no_bit(estimator: str) -> None:
    raw = make_raw_take(MODELS, times=np.arange(25) / 30, estimator=estimator)[0]
    kept = CleanUp(raw, MODELS)
    doubt = (Edit("trust", 20, 30, "right", 0.4),)
    for settings, edits in (
        (CleanUpSettings(), ()),
        (CleanUpSettings(fingers=2.0), ()),
        (CleanUpSettings(fingers=2.0), doubt),
        (CleanUpSettings(wrist_position=0.0), ()),
        (CleanUpSettings(wrist_rotation=2.0, limits=False), doubt),
        (CleanUpSettings(identity=False), ()),
        (CleanUpSettings(), ()),
    ):
        expected = clean_take(raw, MODELS, settings, edits)
        for _ in range(2):
            again = kept.clean(settings, edits)
            assert take_digest(again.take) == take_digest(expected.take)
            assert again.report == expected.report


def test_positions_smoothed_more_leave_the_fingers_alone() -> None:
    raw = make_raw_take(MODELS, times=np.arange(40) / 30)[0]
    one, other = (clean_take(raw, MODELS, CleanUpSettings(wrist_position=s, contact="off")).take for s in (1.0, 3.0))
    assert np.array_equal(one.left.rotation, other.left.rotation)
    assert not np.array_equal(one.left.translation, other.left.translation)


def test_a_raw_take_that_changes_is_read_again(make_client: Callable[..., CleanUpClient], tmp_path: Path) -> None:
    client, path = make_client(), tmp_path / "raw.npz"
    for frames in (20, 30):
        make_raw(path, frames)
        assert len(ask(client, CleanUpRequest(str(path))).take) == frames


# Keys


def test_keys_are_reduced_in_the_take_s_own_axes(client: CleanUpClient, raw_path: Path) -> None:
    bounds = KeyReduction(angle=0.02, distance=0.002)
    answer = ask(client, CleanUpRequest(str(raw_path), reduce=bounds))
    assert answer.error == ""
    for side in SIDES:
        hand, reduced = answer.take.hand(side), answer.reduced[side]
        expected = reduce_rotation_keys(hand.rotation, answer.take.time, bounds.angle)
        place = reduce_position_keys(hand.translation[:, None], answer.take.time, bounds.distance)
        pairs = [*zip(reduced.rotations, expected, strict=True), (reduced.position, place[0])]
        assert len(pairs) == 17
        for ours, theirs in pairs:
            assert len(ours.rows) < len(answer.take)
            for part in fields(ReducedCurve):
                assert np.array_equal(getattr(ours, part.name), getattr(theirs, part.name))


def test_a_newer_request_ends_a_reduction(make_client: Callable[..., CleanUpClient], tmp_path: Path) -> None:
    path = tmp_path / "long.npz"
    make_raw(path, 900)
    client = make_client()
    plain = CleanUpRequest(str(path))
    ask(client, plain)
    client.ask(replace(plain, reduce=KeyReduction(angle=0.002)))
    home = client._home
    wait_for(lambda: not list(home.glob("request-*")), "taking the request")
    assert ask(client, plain).reduced is None
    assert not list(home.glob("answer-*"))


def test_work_that_nobody_waits_for_is_ended() -> None:
    raw = make_raw_take(MODELS, times=np.arange(20) / 30)[0]
    calls = []

    def check() -> None:
        calls.append(0)
        if len(calls) > 3:
            raise clean_up.Outdated

    with pytest.raises(clean_up.Outdated):
        clean_up.reduce_take(raw, KeyReduction(), check)
    assert len(calls) < 10


# Requests


def test_the_newest_request_wins(client: CleanUpClient, raw_path: Path) -> None:
    requests = [CleanUpRequest(str(raw_path), CleanUpSettings(fingers=0.5 + 0.1 * i)) for i in range(20)]
    for request in requests:
        client.ask(request)
    answers = []
    end = time.monotonic() + PATIENCE
    while client.is_busy and time.monotonic() < end:
        answer = client.poll()
        answers += [answer] if answer else []
        time.sleep(0.002)
    assert answers[-1].request is requests[-1]
    assert len(answers) < 10
    assert client.poll() is None


def test_getting_ready_gives_no_answer(make_client: Callable[..., CleanUpClient], raw_path: Path) -> None:
    client = make_client()
    client.warm(str(raw_path))
    assert not client.is_busy
    client.warm(str(raw_path.with_name("none.npz")))
    wait_for(lambda: not list(client._home.glob("request-*")), "taking the request")
    assert client.poll() is None
    assert ask(client, CleanUpRequest(str(raw_path))).error == ""


def test_the_digest_is_of_all_that_matters(raw_path: Path, tmp_path: Path) -> None:
    request = CleanUpRequest(str(raw_path), edits=(Edit("drop", 12, 13, "left"),))
    models = tmp_path / "models"
    models.mkdir()
    others = [
        replace(request, settings=CleanUpSettings(fill=0.5)),
        replace(request, edits=()),
        replace(request, reduce=KeyReduction()),
        replace(request, reduce=KeyReduction(distance=0.01)),
        replace(request, hand_model=str(models)),
        replace(request, raw=str(raw_path.with_name("other.npz"))),
    ]
    digests = {each.digest for each in (request, *others)}
    assert len(digests) == len(others) + 1
    (models / "MANO_LEFT.pkl").write_bytes(b"1")
    assert others[4].digest not in digests
    assert CleanUpRequest.from_json(request.to_json()) == request
    for other in others:
        assert CleanUpRequest.from_json(other.to_json()) == other
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from dir_core.worker.clean_up_client import CleanUpRequest\n"
        f"print(CleanUpRequest.from_json({request.to_json()!r}).digest)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert told.stdout.strip() == request.digest
    before = request.digest
    os.utime(raw_path, ns=(1, 1))
    assert request.digest != before


def test_requests_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingsError, match="absolute"):
        CleanUpRequest("raw.npz")
    with pytest.raises(SettingsError, match="absolute"):
        CleanUpRequest("/raw.npz", hand_model="mano")
    for text in ("", "[]", "{}", '{"schema": "two-hand-clean-up/9"}'):
        with pytest.raises(SettingsError, match="damaged"):
            CleanUpRequest.from_json(text)


# Errors


def test_mistakes_are_answers(client: CleanUpClient, raw_path: Path, tmp_path: Path) -> None:
    damaged, newer, clean = tmp_path / "damaged.npz", tmp_path / "newer.npz", tmp_path / "clean.npz"
    damaged.write_bytes(raw_path.read_bytes()[:5000])
    with np.load(raw_path) as archive:
        arrays = dict(archive)
    arrays["meta"] = np.array(str(arrays["meta"]).replace("two-hand-take/1", "two-hand-take/2"))
    np.savez(newer, **arrays)
    save_take(clean_take(load_take(raw_path), MODELS).take, clean)
    good = CleanUpRequest(str(raw_path))
    for request, words in (
        (replace(good, raw=str(tmp_path / "none.npz")), "There is no take at"),
        (replace(good, raw=str(damaged)), "damaged"),
        (replace(good, raw=str(newer)), "update this program"),
        (replace(good, raw=str(clean)), "clean already"),
        (replace(good, edits=(Edit("drop", 5000, 5001),)), "touches no frame"),
        (replace(good, hand_model=str(tmp_path)), "There is no left hand model"),
    ):
        answer = ask(client, request)
        assert words in answer.error
        assert one_sentence(answer.error)
        assert answer.take is None
        assert answer.problems == ()
    pid = process_of(client).pid
    assert ask(client, good).error == ""
    assert process_of(client).pid == pid, "a mistake does not end the process"


def test_a_hand_model_in_a_checkpoint_needs_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"checkpoint": str(tmp_path / "dir.pth")}
    make_raw(tmp_path / "raw.npz", 5, "dir", settings=settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    with pytest.raises(SettingsError, match="set up the GPU runtime"):
        clean_up.Desk().open(CleanUpRequest(str(tmp_path / "raw.npz")))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs scipy"):
        clean_up.Desk().open(CleanUpRequest(str(tmp_path / "raw.npz")))


def test_the_hand_model_that_a_take_names_is_taken(client: CleanUpClient, tmp_path: Path) -> None:
    make_raw(tmp_path / "raw.npz", 5, settings={"hand_model": str(tmp_path / "mano")})
    error = ask(client, CleanUpRequest(str(tmp_path / "raw.npz"))).error
    assert str(tmp_path / "mano") in error
    assert one_sentence(error)
    make_raw(tmp_path / "raw.npz", 5, settings={"hand_model": None, "checkpoint": None})
    assert ask(client, CleanUpRequest(str(tmp_path / "raw.npz"))).error == ""


def test_a_defect_is_told_and_logged(
    tmp_path: Path, raw_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(self, request, check) -> None:
        raise ZeroDivisionError("nobody thought of this")

    request = CleanUpRequest(str(raw_path))
    (tmp_path / "request-000007.json").write_text(request.to_json())
    monkeypatch.setattr(clean_up.OpenTake, "answer", break_down)
    clean_up._serve(clean_up.Desk(), tmp_path, 7)
    error = read_answer(tmp_path / "answer-000007.npy", request).error
    assert "ZeroDivisionError" in error
    assert str(tmp_path / LOG) in error
    assert one_sentence(error)
    assert "nobody thought of this" in capsys.readouterr().err


def test_a_killed_process_is_told_and_started_again(make_client: Callable[..., CleanUpClient], raw_path: Path) -> None:
    client, request = make_client(), CleanUpRequest(str(raw_path))
    ask(client, request)
    os.kill(process_of(client).pid, signal.SIGSTOP) if sys.platform != "win32" else None
    client.ask(request)
    process_of(client).kill()
    answer = client.wait(PATIENCE)
    assert "ended by itself" in answer.error
    assert one_sentence(answer.error)
    assert ask(client, request).error == ""
    process_of(client).kill()  # while nobody asks anything
    process_of(client).wait(PATIENCE)
    assert client.poll() is None
    assert ask(client, request).error == ""


def test_an_interpreter_that_does_not_do(make_client: Callable[..., CleanUpClient], tmp_path: Path) -> None:
    request = CleanUpRequest(str(tmp_path / "raw.npz"))
    answer = ask(make_client(str(tmp_path / "python")), request)
    assert answer.error.startswith("Cannot start")
    assert one_sentence(answer.error)
    answer = ask(make_client(paths=[tmp_path / "nothing"]), request)
    assert "No module named" in answer.error
    assert one_sentence(answer.error)


def test_a_folder_that_cannot_be(make_client: Callable[..., CleanUpClient], tmp_path: Path, raw_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = ask(make_client(folder=tmp_path / "file"), CleanUpRequest(str(raw_path)))
    assert answer.error.startswith("Cannot write into")
    assert one_sentence(answer.error)


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process as only Linux can")
@pytest.mark.parametrize(("room", "words"), [(20_000, "Cannot write"), (100, "make room on that disk")])
def test_a_full_disk(make_client: Callable[..., CleanUpClient], raw_path: Path, room: int, words: str) -> None:
    import resource

    client, request = make_client(), CleanUpRequest(str(raw_path))
    ask(client, request)
    resource.prlimit(process_of(client).pid, resource.RLIMIT_FSIZE, (room, room))
    answer = ask(client, request)
    assert words in answer.error
    assert one_sentence(answer.error)
    assert not [path for path in client._home.iterdir() if path.name.startswith((".", "answer"))]


def test_no_room_for_a_request(
    make_client: Callable[..., CleanUpClient], raw_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OutputError("Cannot write there: No space left on device; choose another folder.")

    monkeypatch.setattr("dir_core.worker.clean_up_client.write_whole", full)
    assert "No space left" in ask(make_client(), CleanUpRequest(str(raw_path))).error


def test_a_damaged_answer(tmp_path: Path, raw_path: Path) -> None:
    request = CleanUpRequest(str(raw_path))
    for name, data in (("a", b""), ("b", b"\x93NUMPY nonsense")):
        (tmp_path / name).write_bytes(data)
        assert "damaged" in read_answer(tmp_path / name, request).error
    np.save(tmp_path / "c.npy", np.zeros(3))
    assert "damaged" in read_answer(tmp_path / "c.npy", request).error


@pytest.mark.skipif(sys.platform == "win32", reason="stops a process by a POSIX signal")
def test_a_hung_process_never_blocks_and_is_ended(make_client: Callable[..., CleanUpClient], raw_path: Path) -> None:
    client, request = make_client(patience=0.5), CleanUpRequest(str(raw_path))
    client.warm(str(raw_path))
    hung = process_of(client)
    os.kill(hung.pid, signal.SIGSTOP)
    edits = tuple(Edit("drop", 10 + i, 10 + i) for i in range(200))
    for _ in range(1500):  # more than the pipe is trusted with; a blocked pipe would hang here
        client.ask(replace(request, edits=edits))
    answer = client.wait(PATIENCE)
    assert "no answer for 0 s" in answer.error
    assert hung.poll() is not None
    client._patience = PATIENCE
    assert ask(client, request).error == ""


# What is left behind


def test_closing_leaves_nothing(make_client: Callable[..., CleanUpClient], tmp_path: Path, raw_path: Path) -> None:
    client = make_client(folder=tmp_path / "made" / "by the client")
    client.close()  # nothing was started
    assert ask(client, CleanUpRequest(str(raw_path))).error == ""
    process = process_of(client)
    client.close()
    assert process.poll() is not None
    assert list((tmp_path / "made" / "by the client").iterdir()) == []
    assert client.poll() is None
    assert ask(client, CleanUpRequest(str(raw_path))).error == ""


def test_the_process_ends_with_its_parent(tmp_path: Path, raw_path: Path) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from dir_core.worker.clean_up_client import CleanUpClient, CleanUpRequest\n"
        f"client = CleanUpClient(sys.executable, {str(tmp_path)!r}, [{str(ROOT)!r}])\n"
        f"client.ask(CleanUpRequest({str(raw_path)!r}))\n"
        "client.wait(60)\n"
        "print(client._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert list(tmp_path.iterdir())
        parent.kill()
    wait_for(lambda: not list(tmp_path.iterdir()), "removing the folder")
    wait_for(lambda: not is_alive(pid), "the end of the process")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rsplit(")")[-1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_left_overs_of_the_dead_go_and_the_living_stay(
    make_client: Callable[..., CleanUpClient], tmp_path: Path, raw_path: Path
) -> None:
    request = CleanUpRequest(str(raw_path))
    living, dead, young = make_client(), tmp_path / f"{HOME_PREFIX}dead", tmp_path / f"{HOME_PREFIX}young"
    ask(living, request)
    for folder in (dead, young):
        folder.mkdir()
        (folder / "answer-000001.npy").touch()
    for folder in (living._home, dead):
        os.utime(folder, (1, 1))
    ask(make_client(), request)
    assert not dead.exists()
    assert young.exists()
    assert ask(living, request).error == ""
