"""What a batch has to say: one line while it runs, one table at its end."""

from collections import Counter
from collections.abc import Sequence

from dir_core.batch.run import Batch, Row

_HEADER = ("clip", "frames", "seconds", "frames/s", "both hands", "state", "")
_LEFT = (0, 5, 6)  # columns of words
_NAMED = 3  # running clips that are named in the line


def finished_line(row: Row) -> str:
    """One line about a clip that is done with."""
    if row.state != "captured":
        return f"{row.clip.name}: {row.state}{'. ' + row.sentences[0] if row.sentences else '.'}"
    frames = f"{row.frames} frame{'s' if row.frames > 1 else ''}"
    return f"{row.clip.name}: {frames}, {row.frames_per_second:.0f} frames/s, both hands {row.both:.1%}."


def running_line(batch: Batch) -> str:
    """How far the clips are that run now."""
    running = [(number, each) for number, each in batch.running.copy().items() if _is_open(batch, number)]
    told = [(number, each) for number, each in running if each.expected]
    words = [f"{batch.rows[number].clip.name} {each.done / each.expected:.0%}" for number, each in told[:_NAMED]]
    if len(running) > len(words):
        words.append(f"{len(running) - len(words)} more" if words else f"{len(running)} starting")
    rate = sum(each.rate for _, each in told)
    return ", ".join([*words, *([f"{rate:.0f} frames/s"] if rate else [])])


def clips_done(batch: Batch) -> float:
    """Clips that are done with, those that run by their share."""
    whole = sum(row.state != "not begun" for row in batch.rows)
    running = batch.running.copy().items()
    shares = [each.done / each.expected for number, each in running if each.expected and _is_open(batch, number)]
    return whole + sum(min(share, 0.99) for share in shares)


def _is_open(batch: Batch, number: int) -> bool:
    return batch.rows[number].state == "not begun"


def make_table(rows: Sequence[Row]) -> str:
    """One row a clip; further sentences below it."""
    lines: list[tuple[str, ...]] = [_HEADER]
    for row in rows:
        sentences = row.sentences or ("",)
        measured = row.state == "captured"
        lines.append(
            (
                row.clip.name,
                str(row.frames) if row.take else "",
                f"{row.seconds:.1f}" if measured else "",
                f"{row.frames_per_second:.0f}" if measured else "",
                f"{row.both:.1%}" if row.take else "",
                row.state,
                sentences[0],
            )
        )
        lines += [("",) * (len(_HEADER) - 1) + (sentence,) for sentence in sentences[1:]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in _LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def summary(rows: Sequence[Row]) -> str:
    """How many clips came to which end."""
    count = Counter(row.state for row in rows)
    return f"{len(rows)} clip{'s' if len(rows) > 1 else ''}: " + ", ".join(f"{n} {state}" for state, n in count.items())
