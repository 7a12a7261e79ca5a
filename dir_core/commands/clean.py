"""`clean`: a raw take becomes a clean one."""

import argparse
import functools
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from dir_core.clean_up.settings import CleanUpSettings
from dir_core.commands.common import add_hand_model, write_report
from dir_core.errors import HandCaptureError, OutputError, SettingsError
from dir_core.take import check_output, load_take, save_take
from dir_core.take_models import take_hand_models

_PICTURES = (".png", ".svg", ".pdf")


def add_clean(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    clean = commands.add_parser("clean", help="raw take -> clean take: steady hands, gaps filled, sides repaired")
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
    add_hand_model(clean)
    clean.set_defaults(run=_run_clean)


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
        write_report(options.report, result.report.as_dict())
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
