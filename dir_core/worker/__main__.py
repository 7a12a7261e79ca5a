"""`python -I -m dir_core.worker JOB_FOLDER`: the worker process, from its lock to its exit code.

The process ends at once when its parent is gone or the flag `cancel` appears: every file is written whole or not at
all, so there is nothing to put away. That the parent is gone shows in the end of standard input, a pipe that the
system closes with the parent on Linux, macOS and Windows alike; parent ids are reused, and mean nothing on Windows.
"""

import faulthandler
import os
import sys
import threading
import time
from pathlib import Path

from dir_core.errors import HandCaptureError
from dir_core.worker.job import EventLog, cancelled, run_job
from dir_core.worker.protocol import CANCEL, HEARTBEAT, LOG, Event, JobLock, end_with_parent

_CANCELLED_EXIT = 130
_POLL = 0.1  # seconds


def main(arguments: list[str]) -> int:
    """Run the job of one folder and return the exit code."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("Give the folder of one job.", file=sys.stderr)
        return HandCaptureError.exit_code
    folder, lock = Path(arguments[0]).absolute(), None
    try:
        lock = JobLock(folder)
        if not lock.acquire():
            print(f"Another worker captures in {folder}, wait for it or cancel it.", file=sys.stderr)
            return HandCaptureError.exit_code
        _log_into(folder / LOG)
        events = EventLog(folder)
        events.tell(Event(time=time.time(), stage="started", pid=os.getpid()))
    except (HandCaptureError, OSError) as error:
        print(error, file=sys.stderr)
        return HandCaptureError.exit_code
    threading.Thread(target=end_with_parent, name="parent", daemon=True).start()
    threading.Thread(target=_watch, args=(folder, lock, events), name="cancel", daemon=True).start()
    return run_job(folder, events)


def _log_into(path: Path) -> None:
    """Send everything that is printed, also by libraries and crashes, to the end of a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
    faulthandler.enable()


def _watch(folder: Path, lock: JobLock, events: EventLog) -> None:
    beat = 0.0
    while True:
        if (folder / CANCEL).exists():
            if events.end(cancelled()):
                os._exit(_CANCELLED_EXIT)
            return  # too late: the run has just ended by itself
        if time.monotonic() - beat >= HEARTBEAT:
            beat = time.monotonic()
            lock.touch()
        time.sleep(_POLL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
