"""The command line: reads options, calls one function per command, prints sentences. No work of its own."""

import argparse
import functools
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dir_core import __version__
from dir_core.capture_settings import CaptureSettings
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.conventions import DEFAULT_HAND_LENGTH
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.estimator import need_torch
from dir_core.exchange_command import add_exchange
from dir_core.take import Take, check_output, load_take, save_take, write_whole
from dir_core.take_models import take_hand_models

_PICTURES = (".png", ".svg", ".pdf")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one sentence on stderr."""
    options = _make_parser().parse_args(arguments)
    try:
        options.run(options)
    except HandCaptureError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "Stopped; nothing was written.", file=sys.stderr)
        return 130
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dir_core", description="Both hands from ordinary video.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    _add_capture(commands.add_parser("capture", help="video or image sequence -> raw take; many of them -> many takes"))
    _add_clean(commands.add_parser("clean", help="raw take -> clean take: steady hands, gaps filled, sides repaired"))

    preview = commands.add_parser("preview", help="take + footage -> pictures of the posed hands on it")
    _add_take_and_footage(preview)
    preview.add_argument("-o", "--output", type=Path, metavar="MOVIE.mp4")
    preview.add_argument("--sheet", type=Path, metavar="SHEET.png")
    preview.set_defaults(run=_run_preview)

    evaluate = commands.add_parser("evaluate", help="figures of a take, or of network weights on InterHand2.6M")
    # One positional for both, so that `evaluate take.npz` stays what it always was.
    evaluate.add_argument("subject", metavar="TAKE.npz|interhand", help="a take, or the word interhand")
    evaluate.add_argument(
        "--hand-model", metavar="FOLDER", help="the hand model of the take; the MANO files behind the annotations"
    )
    evaluate.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights of dir: to measure, or with the hand model of the take"
    )
    evaluate.add_argument("--report", type=Path, metavar="JSON")
    of_take = evaluate.add_argument_group("of a take")
    of_take.add_argument("--truth", type=Path, metavar="TAKE.npz")
    of_weights = evaluate.add_argument_group("of weights on InterHand2.6M", "the protocol: docs/EVALUATION.md")
    of_weights.add_argument("--data", type=Path, metavar="FOLDER", help="holds annotations and images")
    of_weights.add_argument("--split", default="test", help="train, val or test (default)")
    of_weights.add_argument("--root", type=int, default=0, help="0 wrist (default) or 9 base of the middle finger")
    of_weights.add_argument("--no-scale", action="store_true", help="do not give the prediction the truth's size")
    of_weights.add_argument("--frame-rate", type=float, metavar="FPS", help="of the data; adds the acceleration error")
    of_weights.add_argument("--every", type=int, default=1, metavar="N", help="measure one of every N frames")
    of_weights.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (default %(default)s)")
    of_weights.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cuda, mps or cpu")
    of_weights.add_argument("--legacy-weights", action="store_true", help="the weights are those of October 2023")
    evaluate.set_defaults(run=_run_evaluate)

    add_exchange(commands)
    _add_benchmark(commands.add_parser("benchmark", help="how fast the network of dir is on this machine"))
    return parser


def _add_capture(capture: argparse.ArgumentParser) -> None:
    capture.add_argument(
        "footage",
        type=Path,
        nargs="+",
        metavar="FOOTAGE",
        help="a video or image sequence; several, a folder of them, or a list of them (.txt, one a line)",
    )
    capture.add_argument(
        "-o", "--output", type=Path, required=True, metavar="TAKE.npz|FOLDER", help="a folder for several takes"
    )
    capture.add_argument("--start", type=float, metavar="S", help="first second to capture")
    capture.add_argument("--end", type=float, metavar="S", help="last second to capture")
    capture.add_argument("--step", type=int, default=1, metavar="N", help="capture every N-th frame (default: all)")
    capture.add_argument("--estimator", default="landmarks", help="landmarks (default) or dir")
    capture.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of the estimator dir")
    capture.add_argument(
        "--box",
        type=float,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="around both hands at the first frame, in pixels, for hands that are missed (small, cut off, odd)",
    )
    capture.add_argument("--batch", type=int, metavar="N", help="crops that go through the network together (dir)")
    capture.add_argument(
        "--legacy-weights", action="store_true", help="the checkpoint is the official one of October 2023 (dir)"
    )
    lens = capture.add_mutually_exclusive_group()
    lens.add_argument("--focal-length", type=float, metavar="PX", help="focal length in pixels")
    lens.add_argument("--field-of-view", type=float, metavar="DEG", help="horizontal field of view (default 60)")
    capture.add_argument(
        "--hand-length",
        type=float,
        default=100 * DEFAULT_HAND_LENGTH,
        metavar="CM",
        help="wrist crease to middle finger tip (default %(default)s); sets size and depth",
    )
    capture.add_argument("--mirrored", action="store_true", help="the footage is mirrored (selfie)")
    capture.add_argument("--device", default="auto", metavar="NAME", help="auto (default) or cpu; dir: also cuda, mps")
    capture.add_argument("--frame-rate", type=float, metavar="FPS", help="of an image sequence (default 24)")
    capture.add_argument("--hand-model", metavar="FOLDER", help="folder with your own MANO_LEFT and MANO_RIGHT files")
    capture.add_argument("--report", type=Path, metavar="JSON", help="write the figures of the run")
    many = capture.add_argument_group("of many clips", "docs/BATCH.md; what is finished is not captured again")
    many.add_argument("--jobs", type=int, metavar="N", help="clips at once (default: one a core; dir: one)")
    many.add_argument("--engine", choices=["local", "ray"], default="local", help="this machine (default), a cluster")
    many.add_argument("--address", metavar="ADDRESS", help="of the Ray cluster, or auto (default: one on this machine)")
    capture.set_defaults(run=_run_capture)


def _add_clean(clean: argparse.ArgumentParser) -> None:
    clean.add_argument("take", type=Path, help="a raw take, or a clean one whose settings and edits are to be changed")
    clean.add_argument("-o", "--output", type=Path, required=True, metavar="CLEAN.npz")
    strength = clean.add_argument_group("strength of the smoothing, 0 (none) to 4, 1 is usual")
    strength.add_argument("--strength", type=float, metavar="S", help="of everything that is not named apart")
    strength.add_argument("--wrist-rotation", type=float, metavar="S")
    strength.add_argument("--wrist-position", type=float, metavar="S")
    strength.add_argument("--fingers", type=float, metavar="S")
    steps = clean.add_argument_group("steps")
    steps.add_argument("--fill", type=float, metavar="S", help="seconds up to which a gap is filled with motion (1)")
    steps.add_argument("--beyond", metavar="HOW", help="what the hand does in longer gaps: still (default) or hide")
    for name, what in (
        ("identity", "repair left and right, remove a second skeleton on one hand"),
        ("limits", "keep joints inside their anatomical ranges"),
    ):
        steps.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=what)
    steps.add_argument(
        "--contact", metavar="WHAT", help="what is pushed apart: hands (default), also a hand's own fingers, or off"
    )
    edits = clean.add_argument_group("corrections over source frames, in this order; may be given again and again")
    for kind, form, what in (
        ("swap", "A-B", "exchange left and right"),
        ("drop", "[SIDE:]A-B", "no hand is there"),
        ("trust", "[SIDE:]A-B=W", "trust what was seen less, W from 0 to 1"),
    ):
        # One list for all three keeps their order.
        pair = functools.partial(lambda kind, text: (kind, text), kind)
        edits.add_argument(f"--{kind}", dest="edits", action="append", type=pair, default=[], metavar=form, help=what)
    edits.add_argument("--forget-edits", action="store_true", help="without the corrections that a clean take has")
    clean.add_argument("--report", type=Path, metavar="JSON", help="write the figures of the clean-up")
    clean.add_argument("--plot", type=Path, metavar="PNG", help="draw the curves before and after")
    _add_hand_model(clean)
    clean.set_defaults(run=_run_clean)


def _add_benchmark(benchmark: argparse.ArgumentParser) -> None:
    benchmark.add_argument("subject", choices=["network"])
    benchmark.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights (default: random, as fast as any)")
    benchmark.add_argument("--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    benchmark.add_argument("--repeats", type=int, default=9, metavar="N", help="calls per path (default %(default)s)")
    benchmark.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or mps")
    benchmark.add_argument("--bfloat16", action="store_true", help="also with the picture's plane in bfloat16")
    benchmark.add_argument("--report", type=Path, metavar="JSON")
    benchmark.set_defaults(run=_run_benchmark)


def _add_take_and_footage(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("take", type=Path)
    parser.add_argument("--footage", type=Path, help="default: the video the take was captured from")
    parser.add_argument("--frame-rate", type=float, metavar="FPS", help="of an image sequence (default 24)")
    _add_hand_model(parser)


def _add_hand_model(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--hand-model", metavar="FOLDER", help="the hand model the take was captured with")
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of dir that carry the hand model")


def _run_capture(options: argparse.Namespace) -> None:
    from dir_core.batch.clips import is_batch

    settings = CaptureSettings(
        start=options.start,
        end=options.end,
        step=options.step,
        estimator=options.estimator,
        focal_length=options.focal_length,
        field_of_view=None if options.field_of_view is None else math.radians(options.field_of_view),
        hand_length=options.hand_length / 100,
        mirrored=options.mirrored,
        device=options.device,
        frame_rate=options.frame_rate,
        hand_model=options.hand_model,
        checkpoint=str(options.checkpoint.absolute()) if options.checkpoint else None,
        box=tuple(options.box) if options.box else None,
        batch=options.batch,
        legacy_weights=options.legacy_weights,
    )
    if is_batch(options.footage, options.output):
        from dir_core.batch.command_line import capture_many

        if options.report:
            check_output(options.report)
        figures = functools.partial(_write_report, options.report) if options.report else None
        capture_many(
            options.footage,
            settings,
            options.output,
            jobs=options.jobs,
            engine=options.engine,
            address=options.address,
            report=figures,
        )
        return
    if options.jobs is not None or options.engine != "local" or options.address:
        raise SettingsError("--jobs, --engine and --address are for many clips, give an existing folder as -o.")
    _capture_one(options, options.footage[0], settings)


def _capture_one(options: argparse.Namespace, footage: Path, settings: CaptureSettings) -> None:
    from tqdm import tqdm

    from dir_core.capture import capture_take
    from dir_core.parts import parts_folder

    parts = parts_folder(options.output)
    for path in filter(None, (options.output, options.report)):
        check_output(path)
    begin = time.perf_counter()
    with tqdm(desc="capture", unit=" frames", leave=False, disable=None) as bar:

        def show(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        try:
            result = capture_take(footage, settings, show, parts)
        except KeyboardInterrupt:
            if parts.is_dir():
                raise KeyboardInterrupt(f"Stopped; the same command goes on from here, or delete {parts}.") from None
            raise
    wall = time.perf_counter() - begin
    save_take(result.take, options.output)
    shutil.rmtree(parts, ignore_errors=True)
    frames = len(result.take)
    for warning in result.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    used = result.take.meta["estimator"]
    if "checkpoint" in used:
        print(f"Weights: {used['checkpoint']} ({used['weights'][:12]}), {used['licence']}.")
    both = (result.take.left.observed & result.take.right.observed).mean()
    print(f"Captured {frames} frames in {wall:.1f} s ({frames / wall:.0f} frames/s), both hands in {both:.1%}.")
    if options.report:
        _write_report(
            options.report,
            {
                "frames": frames,
                "seconds": result.take.duration,
                "wall_seconds": wall,
                "frames_per_second": frames / wall,
                "warnings": list(result.warnings),
            },
        )


def _run_clean(options: argparse.Namespace) -> None:
    from dir_core.clean import clean_take, find_raw, read_recipe
    from dir_core.clean_up.edits import Edit, parse_edit

    raw, raw_path = load_take(options.take), options.take
    recipe = read_recipe(raw)
    settings = CleanUpSettings()
    edits: tuple[Edit, ...] = ()
    if recipe is not None:
        raw, raw_path = find_raw(options.take, recipe)
        settings, edits = recipe.settings, () if options.forget_edits else recipe.edits
    settings = _change_settings(settings, options)
    edits = (*edits, *(parse_edit(kind, text) for kind, text in options.edits))
    for path in filter(None, (options.output, options.report, options.plot)):
        check_output(path)
    _protect_raw(options.output)
    if options.plot and options.plot.suffix not in _PICTURES:
        raise SettingsError(f"Curves are drawn as png, svg or pdf, not as {options.plot.name}: change the ending.")
    models = take_hand_models(raw, options.hand_model, options.checkpoint)
    result = clean_take(raw, models, settings, edits, raw_path)
    save_take(result.take, options.output)
    for sentence in result.report.sentences():
        print(sentence)
    if options.report:
        _write_report(options.report, result.report.as_dict())
    if options.plot:
        from dir_core.curves import plot_clean_up

        plot_clean_up(raw, result.take, models, options.plot)


def _change_settings(settings: CleanUpSettings, options: argparse.Namespace) -> CleanUpSettings:
    """The settings with those that were given on the command line."""
    strengths = dict.fromkeys(("wrist_rotation", "wrist_position", "fingers"), options.strength)
    names = [field.name for field in fields(CleanUpSettings)]
    given = strengths | {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _protect_raw(path: Path) -> None:
    """A raw take is what everything can be made from again: never write a clean one over it.

    Raises:
        OutputError: the path holds a raw take.
    """
    from dir_core.clean import read_recipe

    try:
        is_raw = path.is_file() and read_recipe(load_take(path)) is None
    except HandCaptureError:  # something else lies there; the user chose to replace it
        is_raw = False
    if is_raw:
        raise OutputError(f"{path} is a raw take, which is never overwritten: give another name.")


def _run_preview(options: argparse.Namespace) -> None:
    from dir_core.preview import write_preview

    take = load_take(options.take)
    for path in filter(None, (options.output, options.sheet)):
        check_output(path)
    footage = options.footage or take.meta["source"]["path"]
    models = take_hand_models(take, options.hand_model, options.checkpoint)
    write_preview(take, models, footage, movie=options.output, sheet=options.sheet, frame_rate=options.frame_rate)
    for path in filter(None, (options.output, options.sheet)):
        print(f"Wrote {path}")


def _run_evaluate(options: argparse.Namespace) -> None:
    if options.subject == "interhand":
        _run_evaluate_interhand(options)
        return
    if options.data:
        raise SettingsError(f"{options.subject} is measured without --data, write `evaluate interhand` for a data set.")
    if options.checkpoint and options.hand_model:
        raise SettingsError("The hands of a take come from one place, give either --hand-model or --checkpoint.")
    from dir_core.evaluation.metrics import evaluate_take

    truth = load_take(options.truth) if options.truth else None
    take = load_take(options.subject)
    seen = _as_seen(take, Path(options.subject))
    figures = evaluate_take(take, take_hand_models(take, options.hand_model, options.checkpoint), truth, seen).as_dict()
    for name, value in figures.items():
        if value is not None:
            print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")
    if options.report:
        _write_report(options.report, figures)


def _as_seen(take: Take, path: Path) -> Take:
    """The take with the key points that were seen: itself, or the raw one that a clean one was made from."""
    from dir_core.clean import correct_sides, find_raw, read_recipe

    recipe = read_recipe(take)
    return correct_sides(find_raw(path, recipe)[0], recipe.settings, recipe.edits)[0] if recipe else take


def _run_evaluate_interhand(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    if not (options.data and options.checkpoint) or options.truth:
        raise SettingsError("`evaluate interhand` needs --data FOLDER and --checkpoint FILE, and takes no --truth.")
    need_torch()
    from dir_core.evaluation.interhand_benchmark import BenchmarkSettings, evaluate_interhand

    settings = BenchmarkSettings(
        split=options.split,
        root=options.root,
        scale=not options.no_scale,
        frame_rate=options.frame_rate,
        every=options.every,
        batch=options.batch,
        device=options.device,
        hand_model=options.hand_model,
        legacy_right_init=True if options.legacy_weights else None,
    )
    if options.report:
        check_output(options.report)
    with tqdm(desc="evaluate", unit=" frames", leave=False, disable=None) as bar:

        def show(done: int, expected: int) -> None:
            bar.total = expected
            bar.update(done - bar.n)

        report = evaluate_interhand(options.data, options.checkpoint, settings, show)
    print(report.text())
    if options.report:
        _write_report(options.report, report.as_dict())


def _run_benchmark(options: argparse.Namespace) -> None:
    need_torch()
    from dir_core.network.benchmark import benchmark_network, describe

    if options.report:
        check_output(options.report)
    figures = benchmark_network(
        options.checkpoint, options.batch, options.repeats, options.device, bfloat16=options.bfloat16
    )
    print(describe(figures))
    if options.report:
        _write_report(options.report, figures.as_dict())


def _write_report(path: Path, figures: dict[str, Any]) -> None:
    write_whole(path, (json.dumps(figures, indent=2) + "\n").encode())
