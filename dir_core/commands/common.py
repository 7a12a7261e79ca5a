"""What several commands share: options of the same meaning, and how figures are written."""

import argparse
import json
from pathlib import Path
from typing import Any

from dir_core.take import write_whole


def add_hand_model(parser: argparse.ArgumentParser) -> None:
    """Where the hands of a take come from: one of two places."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--hand-model", metavar="FOLDER", help="the hand model the take was captured with")
    source.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights of dir that carry the hand model")


def write_report(path: Path, figures: dict[str, Any]) -> None:
    """Write the figures of a run as JSON, whole or not at all."""
    write_whole(path, (json.dumps(figures, indent=2) + "\n").encode())
