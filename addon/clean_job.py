"""Keeps the keys of every take in step with what the user wants, in the background.

What is wanted (raw take, clean-up settings, corrections, keying options) is in the scene; what the keys were made from
is written on their actions. Whenever the two differ, the clean-up process is asked and its answer is keyed. Undo and
redo change either; comparing again afterwards makes them agree, so a slider and the keys that follow it are one step.
"""

import contextlib
import hashlib
import json
from collections import OrderedDict
from typing import Any, Final

import bpy

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.errors import HandCaptureError
from dir_core.take import Take
from dir_core.worker.clean_up_client import CleanUpAnswer, CleanUpClient, CleanUpRequest

from . import gpu_runtime, log, take_keys, takes, ticker
from .preferences import preferences
from .processes import own_python
from .properties import SCENE_PROPERTY, listen_to_clean_up

_TICK: Final = 0.02  # seconds between two looks while something is wanted
_KEPT: Final = 8  # answers in memory: undo and redo between them cost nothing; a minute of video is 3 MB
_PATIENCE: Final = 120.0  # seconds that a Blender without a window waits for the clean-up process

_answers: Final[OrderedDict[str, CleanUpAnswer]] = OrderedDict()  # by the digest of their request
_followed: Final[dict[str, str]] = {}  # uid of a take -> its wanted digest that could not be reached, "" while it can
_undone: Final[set[str]] = set()  # uids of takes that are followed because of undo or redo
_reports: Final[dict[str, str]] = {}  # by the uid of a take: what was keyed last
_asked: Final[dict[str, CleanUpRequest]] = {}  # by digest: requests that are on their way
_client: CleanUpClient | None = None
_client_python = ""
_owner = object()  # of the message bus subscriptions


def follow_take(context: Any, item: Any) -> None:
    """Bring the keys of a take up to date: soon and without waiting, or at once where there is no window.

    Raises:
        HandCaptureError: without a window only: what went wrong.
    """
    if _is_windowless():
        _key_now(context, item)
    else:
        _undone.discard(item.uid)
        _follow(item)


def _follow(item: Any) -> None:
    _followed[item.uid] = ""
    ticker.follow(_step)


def answer_of(item: Any) -> CleanUpAnswer | None:
    """What the clean-up found for the take as it is wanted now; None until it has answered."""
    return _answers.get(_request(item).digest)


def ask_for(item: Any) -> None:
    """Have the clean-up look at a take that is not keyed, so that its problems can be shown."""
    request = _request(item)
    if request.digest not in _answers:
        _ask(request, item)
        ticker.follow(_step)


def clean_take_of(item: Any) -> Take:
    """The take as the clean-up makes it now; waits for it, which takes no time once it has been keyed.

    Raises:
        HandCaptureError: the take cannot be cleaned.
    """
    request = _request(item)
    if request.digest not in _answers:
        _ask(request, item)
    while request.digest not in _answers:
        _wait()
    return _clean(_answers[request.digest])


def is_busy(item: Any) -> bool:
    """Whether the keys of a take are about to change."""
    return _followed.get(item.uid) == "" and ticker.is_followed(_step)


def is_behind(item: Any) -> bool:
    """Whether the keys of a take were made from other settings than it has, and nobody is about to change that."""
    keyed = take_keys.keyed_digest(item)
    return bool(keyed) and not is_busy(item) and keyed != wanted_digest(item.id_data, item)


def report_of(item: Any) -> str:
    """What was keyed last for a take, in numbers; "" before."""
    return _reports.get(item.uid, "")


def wanted_digest(scene: Any, item: Any) -> str:
    """SHA-256 over everything that the keys of a take depend on."""
    keying = item.keying
    options = {
        "request": _request(item).digest,
        "clean": item.clean_up.enabled,
        "start": item.start,
        "rate": [scene.render.fps, round(scene.render.fps_base, 6)],
        "range": [keying.first, keying.last] if keying.use_range else None,
    }
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _request(item: Any) -> CleanUpRequest:
    keying = item.keying
    return CleanUpRequest(
        raw=str(takes.raw_path(item)),
        settings=takes.settings_of(item),
        edits=takes.edits_of(item),
        reduce=KeyReduction(angle=keying.reduction_angle) if keying.use_reduction else None,
    )


def _step() -> float | None:
    """One look: take what was answered, key what can be keyed, ask for what is missing."""
    _take_answer()
    for uid, failed in list(_followed.items()):
        scene, item = _find(uid)
        if item is None:  # removed, or in a file that was closed
            del _followed[uid]
            continue
        wanted = wanted_digest(scene, item)
        if failed == wanted:  # waits for the user to change something
            continue
        _followed[uid] = ""
        try:
            # Who took the keys off the hands does not want them back by moving a slider.
            is_keyed = take_keys.keyed_span(item) is not None
            if is_keyed and take_keys.keyed_digest(item) != wanted and not _key(scene, item, wanted):
                continue  # its answer is on the way: nothing to show yet, and a redraw takes time from the clean-up
            del _followed[uid]
        except HandCaptureError as error:
            log.note_mistake(str(error))
            _followed[uid] = wanted
        ticker.redraw()
    waiting = bool(_asked) or any(not failed for failed in _followed.values())
    return _TICK if waiting else None


def _key(scene: Any, item: Any, wanted: str) -> bool:
    """Key a take if its answer is there, else ask; whether it was keyed.

    Raises:
        HandCaptureError: the take cannot be cleaned or keyed.
    """
    if not item.clean_up.enabled and not item.keying.use_reduction:
        _write_keys(scene, item, takes.load_raw(item), None, wanted)
        return True
    request = _request(item)
    answer = _answers.get(request.digest)
    if answer is None:
        _ask(request, item)
        return False
    _write_keys(scene, item, _clean(answer), answer.reduced, wanted)
    return True


def _write_keys(scene: Any, item: Any, take: Take, curves: Any, wanted: str) -> None:
    """Key a take. Where this makes actions it becomes an undo step; after an undo that would be a trap, so it waits."""
    if item.uid in _undone and not _is_windowless() and take_keys.makes_actions(item, take):
        return
    actions = len(bpy.data.actions)
    with bpy.context.temp_override(scene=scene):
        keyed = take_keys.key_take(bpy.context, item, take, curves=curves, digest=wanted)
    _reports[item.uid] = keyed.sentence()
    if len(bpy.data.actions) > actions and not _is_windowless():
        with bpy.context.temp_override(window=next(iter(bpy.context.window_manager.windows), None)):
            bpy.ops.ed.undo_push(message="Key Hands")


def _clean(answer: CleanUpAnswer) -> Take:
    if answer.take is None:
        _answers.pop(answer.request.digest, None)  # the next time it is wanted it may work
        raise HandCaptureError(answer.error)
    return answer.take


def _key_now(context: Any, item: Any) -> None:
    wanted = wanted_digest(context.scene, item)
    if not take_keys.has_rigs(item) or take_keys.keyed_digest(item) == wanted:
        return
    while not _key(context.scene, item, wanted):
        _wait()


def _wait() -> None:
    answer = _client.wait(_PATIENCE) if _client else None
    if answer is None:
        raise HandCaptureError("The clean-up does not answer, restart Blender.")
    _keep(answer)


def _ask(request: CleanUpRequest, item: Any) -> None:
    if request.digest not in _asked:
        client = _process(item)
        _asked.clear()  # the newest wins
        _asked[request.digest] = request
        client.ask(request)


def _take_answer() -> None:
    answer = _client.poll() if _asked and _client else None
    if answer is not None:
        _keep(answer)


def _keep(answer: CleanUpAnswer) -> None:
    digest = answer.request.digest
    _asked.pop(digest, None)
    _answers[digest] = answer
    _answers.move_to_end(digest)
    while len(_answers) > _KEPT:
        _answers.popitem(last=False)


def _process(item: Any) -> CleanUpClient:
    """The clean-up process, in a Python that can read the hand model of the take."""
    global _client, _client_python  # noqa: PLW0603 - one process serves every take
    python, paths = own_python()
    if item.estimator == "dir":  # its model may lie in a checkpoint, which needs torch
        with contextlib.suppress(HandCaptureError):
            python, paths = gpu_runtime.worker_python("dir", preferences(bpy.context))
    if _client is not None and _client_python != python:
        _client.close()
        _client = None
    if _client is None:
        _client, _client_python = CleanUpClient(python, log.user_folder("clean_up"), paths), python
    return _client


def _is_windowless() -> bool:
    return bool(bpy.app.background)


def _find(uid: str) -> tuple[Any, Any]:
    for scene in bpy.data.scenes:
        item = takes.find_take(scene, uid)
        if item is not None:
            return scene, item
    return None, None


def _on_change(scene: Any) -> None:
    if not _is_windowless():  # without a window the operators key, not every property
        for item in getattr(scene, SCENE_PROPERTY).takes:
            follow_take(bpy.context, item)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_undo(scene: Any, *_: Any) -> None:
    """Compare what the file holds now; nothing happens where properties and keys agree."""
    if not _is_windowless():
        for item in getattr(scene, SCENE_PROPERTY).takes:
            _undone.add(item.uid)
            _follow(item)


def _on_rate() -> None:
    for scene in bpy.data.scenes:
        _on_change(scene)


@bpy.app.handlers.persistent  # type: ignore[untyped-decorator]
def _on_load(*_: Any) -> None:
    """Listen again: a new file forgets its listeners."""
    bpy.msgbus.clear_by_owner(_owner)
    for name in ("fps", "fps_base"):
        bpy.msgbus.subscribe_rna(key=(bpy.types.RenderSettings, name), owner=_owner, args=(), notify=_on_rate)


def register() -> None:
    """Listen to settings, undo and frame rates."""
    listen_to_clean_up(_on_change)
    bpy.app.handlers.undo_post.append(_on_undo)
    bpy.app.handlers.redo_post.append(_on_undo)
    bpy.app.handlers.load_post.append(_on_load)
    _on_load()


def unregister() -> None:
    """Stop listening and end the clean-up process."""
    global _client  # noqa: PLW0603 - see _process
    bpy.msgbus.clear_by_owner(_owner)
    bpy.app.handlers.load_post.remove(_on_load)
    bpy.app.handlers.redo_post.remove(_on_undo)
    bpy.app.handlers.undo_post.remove(_on_undo)
    if _client is not None:
        _client.close()
        _client = None
    for store in (_answers, _followed, _asked, _undone, _reports):
        store.clear()
