"""How long Blender waits for a clean-up. Run by hand; prints, asserts nothing.

    python tests/benchmarks/bench_clean_up_process.py [RAW.npz] [--frames 1800] [--repeat 3]

For every kind of slider: wall seconds from asking a warm process to the take in hand, the processor seconds that it
took the process, and the milliseconds of Blender's own time that asking and reading cost. Every repetition gives the
slider a new value. Other programs on the machine make wall seconds longer; processor seconds stay comparable.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from dir_core.clean_up.edits import Edit
from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.hand_model import open_hand_models
from dir_core.take import load_take, save_take
from dir_core.worker.clean_up_client import CleanUpClient, CleanUpRequest
from tests.benchmarks.bench_clean import forth_and_back
from tests.takes import make_raw_take

ROOT = Path(__file__).parents[2]
TICK = 0.005  # seconds between two looks


def processor_seconds(pid: int) -> float:
    """Of a process so far; Linux only."""
    spent = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[11:13]
    return sum(map(int, spent)) / 100


def time_request(client: CleanUpClient, request: CleanUpRequest) -> tuple[float, float, float]:
    """Wall seconds, processor seconds of the process and milliseconds of our own."""
    pid = client._process.pid
    begin, spent, own = time.perf_counter(), processor_seconds(pid), time.process_time()
    client.ask(request)
    own, answer = time.process_time() - own, None
    while answer is None:
        time.sleep(TICK)
        look = time.process_time()
        answer = client.poll()
    own += time.process_time() - look
    if answer.error:
        raise SystemExit(answer.error)
    return time.perf_counter() - begin, processor_seconds(pid) - spent, 1e3 * own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("take", type=Path, nargs="?")
    parser.add_argument("--frames", type=int, default=1800)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--reduce", action="store_true", help="also the reduction of keys, which takes seconds")
    options = parser.parse_args()
    if options.take:
        raw = forth_and_back(load_take(options.take), options.frames)
    else:
        raw = make_raw_take(open_hand_models(), times=np.arange(options.frames) / 30)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.npz"
        save_take(raw, path)
        client = CleanUpClient(sys.executable, folder, [ROOT])
        client.warm(str(path))
        usual = CleanUpRequest(str(path))
        client.ask(usual)
        client.wait(60)

        names = ["all strengths", "fingers", "wrist_rotation", "wrist_position", "fill", "limits"]
        names += ["dropped range", "doubted range", *(["fewer keys"] if options.reduce else [])]

        def vary(name: str, index: int) -> CleanUpRequest:
            # Other values for every slider: nothing may be found in memory.
            strength, first = 1.1 + 0.01 * index + 0.1 * names.index(name), int(raw.frame[100 + index])
            if name == "all strengths":
                parts = ("fingers", "wrist_rotation", "wrist_position")
                return replace(usual, settings=CleanUpSettings(**dict.fromkeys(parts, strength)))
            if name in ("dropped range", "doubted range"):
                weight = {} if name == "dropped range" else {"weight": 0.4}
                return replace(usual, edits=(Edit("trust" if weight else "drop", first, first + 20, "left", **weight),))
            if name == "fewer keys":
                return replace(usual, reduce=KeyReduction())
            return replace(usual, settings=CleanUpSettings(**{name: name != "limits" and strength}))

        for name in names:
            runs = [time_request(client, vary(name, index)) for index in range(options.repeat)]
            wall, processor, own = (min(column) for column in zip(*runs, strict=True))
            print(f"{name:15} {wall:6.2f} s wall  {processor:6.2f} s of processors  {own:5.1f} ms in Blender")
        client.close()


if __name__ == "__main__":
    main()
