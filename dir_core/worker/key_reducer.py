"""Fewest keys, found in a process of its own: `python -I -m dir_core.worker.key_reducer FOLDER`.

Blender imports this file to ask (numpy and the standard library only), and the process runs it to answer. A folder has
numbers.npz, then a byte in `progress` for every part that is done, then curves.npz, whole or not at all. The process
ends when its standard input does, as that means that nobody waits for it any more.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from dir_core.clean_up.key_reduction import KeyReduction, ReducedCurve
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.retargeting.fewer_keys import Numbers, reduce_numbers
from dir_core.take import write_whole
from dir_core.worker.protocol import end_with_parent, python_command, start_child

MODULE: Final = "dir_core.worker.key_reducer"

_NUMBERS, _CURVES, _PROGRESS, _LOG = "numbers.npz", "curves.npz", "progress", "key_reducer.log"
_TOGETHER: Final = 8  # bones reduced at once; more are hardly faster
_THREADS: Final = 2  # numpy lets them run side by side
_POLL: Final = 0.01  # seconds between two looks
_ENDING: Final = 1.0  # seconds that a killed process gets to go
_LAST_WORDS: Final = 300  # characters of the log that are told


def reduce_aside(
    numbers: Sequence[Numbers],
    bounds: KeyReduction,
    python: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]] = (),
) -> Generator[float, None, list[ReducedCurve]]:
    """`reduce_numbers` in another process, looked after in small steps; closing the generator ends it.

    Args:
        numbers, bounds: see `reduce_numbers`.
        python, paths: see `protocol.python_command`.

    Yields:
        The share of the work that is done, 0..1.

    Raises:
        OutputError: the folder for temporary files cannot be written.
        SettingsError: the process cannot be started, or failed.
    """
    try:
        home = tempfile.TemporaryDirectory(prefix="two-hand-keys-", ignore_cleanup_errors=True)
    except OSError as error:
        raise OutputError(f"Cannot write temporary files: {error.strerror}; make room and try again.") from error
    with home as folder:
        process = _start(Path(folder), numbers, bounds, python, paths)
        try:
            yield 0.0
            parts = len(_parts(numbers))
            while process.poll() is None:
                time.sleep(_POLL)
                yield min(_size(Path(folder) / _PROGRESS) / parts, 1.0)
        finally:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING)
            if process.stdin:
                process.stdin.close()
        return _read_curves(Path(folder))


def main(arguments: list[str]) -> int:
    """Answer the one request of a folder."""
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    folder = Path(arguments[0])
    numbers, bounds = _read_numbers(folder)
    with (folder / _PROGRESS).open("ab", buffering=0) as progress:

        def reduced(part: Sequence[Numbers]) -> list[ReducedCurve]:
            curves = reduce_numbers(part, bounds)
            progress.write(b".")
            return curves

        with ThreadPoolExecutor(_THREADS) as pool:
            curves = [curve for part in pool.map(reduced, _parts(numbers)) for curve in part]
    packed = {f"{row}/{name}": value for row, curve in enumerate(curves) for name, value in _arrays(curve).items()}
    _write(folder / _CURVES, packed)
    return 0


def _start(
    folder: Path,
    numbers: Sequence[Numbers],
    bounds: KeyReduction,
    python: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
) -> "subprocess.Popen[bytes]":
    about = {"bounds": asdict(bounds), "numbers": [[each.kind, list(each.indices)] for each in numbers]}
    arrays = {str(row): each.values for row, each in enumerate(numbers)}
    _write(folder / _NUMBERS, {"about": np.array(json.dumps(about)), **arrays})
    with (folder / _LOG).open("wb") as log:
        try:
            return start_child(
                python_command(python, MODULE, [folder.absolute()], paths),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder.parent,
            )
        except OSError as error:
            raise SettingsError(
                f"Cannot start {os.fspath(python)}: {error.strerror}; install the add-on again."
            ) from error


def _parts(numbers: Sequence[Numbers]) -> list[Sequence[Numbers]]:
    return [numbers[row : row + _TOGETHER] for row in range(0, len(numbers), _TOGETHER)]


def _read_numbers(folder: Path) -> tuple[list[Numbers], KeyReduction]:
    with np.load(folder / _NUMBERS, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        numbers = [Numbers(kind, tuple(rows), file[str(row)]) for row, (kind, rows) in enumerate(about["numbers"])]
    return numbers, KeyReduction(**about["bounds"])


def _read_curves(folder: Path) -> list[ReducedCurve]:
    if not (folder / _CURVES).is_file():
        words = (folder / _LOG).read_text("utf-8", errors="replace").strip()[-_LAST_WORDS:].splitlines()
        raise SettingsError(
            f"The process that finds fewer keys failed ({words[-1] if words else 'it was ended'}), "
            "try again or key without fewer keys."
        )
    names = [field.name for field in fields(ReducedCurve)]
    with np.load(folder / _CURVES, allow_pickle=False) as file:
        count = len(file.files) // len(names)
        return [ReducedCurve(**{name: file[f"{row}/{name}"] for name in names}) for row in range(count)]


def _arrays(curve: ReducedCurve) -> dict[str, Any]:
    return {field.name: getattr(curve, field.name) for field in fields(curve)}


def _write(path: Path, arrays: dict[str, Any]) -> None:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    write_whole(path, packed.getvalue())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HandCaptureError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
