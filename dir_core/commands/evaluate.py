"""`evaluate`: figures of a take, of network weights on InterHand2.6M, or of the default on hands that touch."""

import argparse
from pathlib import Path
from typing import Any

from dir_core.commands.common import write_report
from dir_core.errors import SettingsError
from dir_core.estimator import need_torch
from dir_core.take import Take, check_output, load_take
from dir_core.take_models import take_hand_models


def add_evaluate(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    evaluate = commands.add_parser(
        "evaluate", help="figures of a take, of network weights on InterHand2.6M, or of the default on hands that touch"
    )
    # One positional for all, so that `evaluate take.npz` stays what it always was.
    evaluate.add_argument(
        "subject", metavar="TAKE.npz|interhand|touching", help="a take, or the word interhand or touching"
    )
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
    of_touching = evaluate.add_argument_group("of the default on drawn clips of hands that touch")
    of_touching.add_argument(
        "--clips",
        type=Path,
        default=Path("build", "touching"),
        metavar="FOLDER",
        help="where the clips are drawn to, once; delete it to draw them anew (default %(default)s)",
    )
    of_touching.add_argument("--untouched", action="store_true", help="without the networks for hands that touch")
    of_touching.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a sheet of overlays of every clip")
    of_touching.add_argument("--interhand", type=Path, metavar="FOLDER", help="measure the network on these stills too")
    evaluate.set_defaults(run=_run_evaluate)


def _run_evaluate(options: argparse.Namespace) -> None:
    if options.subject == "interhand":
        _run_evaluate_interhand(options)
        return
    if options.subject == "touching":
        _run_evaluate_touching(options)
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
        write_report(options.report, figures)


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
        write_report(options.report, report.as_dict())


def _run_evaluate_touching(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    from dir_core.evaluation.stills import STILL_COLUMNS, hand_reader, measure_stills
    from dir_core.evaluation.touching import CLIPS, capture_clip, draw_clips, report_clips
    from dir_core.evaluation.touching_metrics import table
    from dir_core.evaluation.touching_pictures import write_overlays

    two_hands = not options.untouched
    if options.report:
        check_output(options.report)
    stills = measure_stills(options.interhand, two_hands=two_hands) if options.interhand else {}
    with tqdm(total=len(CLIPS), desc="draw", unit=" clips", leave=False, disable=None) as bar:
        movies = draw_clips(options.clips, CLIPS, bar.set_postfix_str)
    captured = []
    for clip, movie in tqdm(list(zip(CLIPS, movies, strict=True)), unit=" clips", leave=False, disable=None):
        captured.append(capture_clip(movie, two_hands=two_hands))
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            sheet = options.pictures / f"{clip.name.replace(' ', '_')}.png"
            write_overlays(sheet, movie, captured[-1], hand_reader(two_hands=two_hands))
    report = report_clips(CLIPS, captured)
    print(report.text())
    if stills:
        print("\nThe landmark network on real stills, true boxes moved about:")
        print(table(stills, STILL_COLUMNS))
    if options.report:
        figures = {name: each.as_dict() for name, each in stills.items()}
        write_report(options.report, report.as_dict() | {"stills": figures})
