"""Fewer keys from a process of their own: the same as here, ended when nobody wants them, told when it fails."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from dir_core.clean_up.key_reduction import KeyReduction
from dir_core.errors import SettingsError
from dir_core.retargeting.fewer_keys import Numbers, reduce_numbers
from dir_core.worker.key_reducer import reduce_aside

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def numbers(count=60, bones=6):
    rng = np.random.default_rng(0)
    return [Numbers("XYZ", (0, 1, 2), np.cumsum(rng.normal(0, 0.01, (count, 3)), axis=0)) for _ in range(bones)] + [
        Numbers("PLACE", (1,), np.cumsum(rng.normal(0, 0.001, (count, 1)), axis=0))
    ]


def test_a_process_finds_the_same_curves(temporary):
    asked, bounds = numbers(), KeyReduction(angle=0.01, distance=0.002)
    steps, shares = reduce_aside(asked, bounds, sys.executable, [ROOT]), []
    try:
        while True:
            shares.append(next(steps))
    except StopIteration as end:
        found = end.value
    assert shares == sorted(shares)
    for one, other in zip(found, reduce_numbers(asked, bounds), strict=True):
        for name in ("rows", "values", "left_slope", "right_slope", "left_reach", "right_reach"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert not list(temporary.iterdir())


def test_closing_ends_the_process_and_leaves_nothing(temporary):
    steps = reduce_aside(numbers(3000, 30), KeyReduction(), sys.executable, [ROOT])
    next(steps)
    next(steps)
    begin = time.monotonic()
    steps.close()
    assert time.monotonic() - begin < 5.0
    assert not list(temporary.iterdir())


def test_what_fails_is_told(tmp_path):
    with pytest.raises(SettingsError, match="Cannot start"):
        next(reduce_aside(numbers(), KeyReduction(), tmp_path / "no python"))
    broken = [Numbers("XYZ", (0, 1, 2), np.full((9, 3), "a"))]
    with pytest.raises(SettingsError, match="failed"):
        for _ in reduce_aside(broken, KeyReduction(), sys.executable, [ROOT]):
            pass
