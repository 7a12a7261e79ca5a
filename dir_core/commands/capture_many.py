"""`capture` for many clips: the line while they run, the table at the end, the exit code."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dir_core.batch.clips import find_clips
from dir_core.batch.finished import identify
from dir_core.batch.local import LocalEngine, cores
from dir_core.batch.run import Batch, Engine
from dir_core.batch.table import clips_done, finished_line, make_table, running_line, summary
from dir_core.capture_settings import CaptureSettings
from dir_core.errors import BatchError, OutputError, SettingsError
from dir_core.take import check_output

_BAR = "capture: {percentage:3.0f}%|{bar:20}| {n:.1f}/{total_fmt} clips [{elapsed}<{remaining}] {desc}"


def capture_many(
    footage: Sequence[Path],
    settings: CaptureSettings,
    output: Path,
    *,
    jobs: int | None = None,
    engine: str = "local",
    address: str | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Capture clips into a folder and print what became of each; also where some failed or Ctrl-C came.

    Args:
        footage: see `find_clips`.
        settings: for every clip.
        output: folder of the takes, made if it is not there.
        jobs: clips at once; None for what suits estimator and engine.
        engine: "local" or "ray".
        address: of a Ray cluster; None for one on this machine.
        report: gets the figures of the run.

    Raises:
        SettingsError, CheckpointError, HandModelError, OutputError: nothing was begun.
        BatchError: some clips failed.
        KeyboardInterrupt: the user stopped the batch.
    """
    if jobs is not None and jobs < 1:
        raise SettingsError(f"{jobs} clips at once cannot work, give 1 or more as --jobs.")
    if address and engine != "ray":
        raise SettingsError("--address is that of a Ray cluster, give also --engine ray.")
    if settings.hand_model:  # the clips are captured in folders of their own
        settings = replace(settings, hand_model=str(Path(settings.hand_model).absolute()))
    clips = find_clips(footage, output)
    _make_folder(output)
    identity = identify(settings)
    with contextlib.ExitStack() as stack:
        used = _choose_engine(engine, settings, address, jobs, len(clips))
        stack.callback(used.close)
        batch = Batch(clips, settings, output, used, identity)
        bar = stack.enter_context(tqdm(total=len(clips), leave=False, disable=None, bar_format=_BAR))
        told: set[str] = set()

        def watch(batch: Batch) -> None:
            for row in batch.rows:
                if row.state != "not begun" and row.clip.name not in told:
                    told.add(row.clip.name)
                    bar.write(f"[{len(told)}/{len(clips)}] {finished_line(row)}", file=sys.stderr)
            bar.set_description_str(running_line(batch), refresh=False)
            bar.update(clips_done(batch) - bar.n)

        try:
            batch.run(watch)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Stopped; the same command goes on from here.") from None
        finally:
            bar.close()
            print(make_table(batch.rows))
            print(summary(batch.rows), flush=True)
            if report:
                report({"clips": [row.as_dict() for row in batch.rows]})
    failed = sum(row.state == "failed" for row in batch.rows)
    if failed:
        raise BatchError(f"{failed} of {len(clips)} clips failed, put right what the table says and run this again.")


def _choose_engine(name: str, settings: CaptureSettings, address: str | None, jobs: int | None, clips: int) -> Engine:
    if name == "ray":
        from dir_core.batch.cluster import RayEngine

        return RayEngine(settings, address, jobs)
    usual = 1 if settings.estimator == "dir" else cores()  # the network of dir takes all cores, and 2 GB
    return LocalEngine(min(jobs or usual, clips))


def _make_folder(output: Path) -> None:
    """Raises OutputError if takes cannot be written there, or if it names one take."""
    if output.suffix == ".npz" and not output.is_dir():
        raise OutputError(f"Many clips are written into a folder and {output} names one take, give a folder.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {output}: {error.strerror}; choose another one.") from error
    check_output(output / "take.npz")
