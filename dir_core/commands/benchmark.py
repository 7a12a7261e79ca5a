"""`benchmark`: how fast the network of dir is on this machine."""

import argparse
from pathlib import Path
from typing import Any

from dir_core.commands.common import write_report
from dir_core.estimator import need_torch
from dir_core.take import check_output


def add_benchmark(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    benchmark = commands.add_parser("benchmark", help="how fast the network of dir is on this machine")
    benchmark.add_argument("subject", choices=["network"])
    benchmark.add_argument("--checkpoint", type=Path, metavar="FILE", help="weights (default: random, as fast as any)")
    benchmark.add_argument("--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="default: 1 8")
    benchmark.add_argument("--repeats", type=int, default=9, metavar="N", help="calls per path (default %(default)s)")
    benchmark.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or mps")
    benchmark.add_argument("--bfloat16", action="store_true", help="also with the picture's plane in bfloat16")
    benchmark.add_argument("--report", type=Path, metavar="JSON")
    benchmark.set_defaults(run=_run_benchmark)


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
        write_report(options.report, figures.as_dict())
