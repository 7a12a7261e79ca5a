"""The command line: reads options, calls one function per command, prints sentences. No work of its own."""

import argparse
import sys
from collections.abc import Sequence

from dir_core import __version__
from dir_core.commands.benchmark import add_benchmark
from dir_core.commands.capture import add_capture
from dir_core.commands.clean import add_clean
from dir_core.commands.evaluate import add_evaluate
from dir_core.commands.exchange import add_exchange
from dir_core.commands.preview import add_preview
from dir_core.commands.synthetic import add_synthetic
from dir_core.commands.train import add_train
from dir_core.errors import HandCaptureError


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
    for add in (
        add_capture,
        add_clean,
        add_preview,
        add_evaluate,
        add_exchange,
        add_benchmark,
        add_synthetic,
        add_train,
    ):
        add(commands)
    return parser
