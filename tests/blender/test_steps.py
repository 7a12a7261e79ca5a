"""Operators that work in slices: the part of them that needs no window."""

import time
from types import SimpleNamespace

import pytest

from addon.operators.steps import SteppedOperator


class Manager:
    """What a window manager is asked for."""

    def __init__(self):
        self.shares, self.timers = [], 1

    def progress_update(self, share):
        self.shares.append(share)

    def progress_end(self):
        self.shares.append("end")

    def event_timer_remove(self, _timer):
        self.timers -= 1


class Slow:
    """An operator that has begun in a window, with the methods of every one."""

    bl_idname, bl_label = "hands.slow", "Slow"
    execute, run, modal, cancel = (
        SteppedOperator.execute, SteppedOperator.run, SteppedOperator.modal, SteppedOperator.cancel,
    )  # fmt: skip
    _leave_if_done, refuse = SteppedOperator._leave_if_done, SteppedOperator.refuse

    def __init__(self):
        self._steps, self._timer, self.closed, self.told, self.reports = None, object(), False, None, []

    def report(self, _kind, sentence):
        self.reports.append(sentence)

    def steps(self, _context):
        try:
            for row in range(20):
                time.sleep(0.01)
                yield row / 20
        finally:
            self.closed = True
        return 42

    def finish(self, _context, done):
        self.told = done


@pytest.fixture
def context():
    workspace = SimpleNamespace(status_text_set=lambda _text: None)
    return SimpleNamespace(window_manager=Manager(), workspace=workspace)


def test_each_tick_does_a_slice_and_the_last_one_tells(context):
    slow, ticks = Slow(), 0
    while slow.told is None:
        result = slow.modal(context, SimpleNamespace(type="TIMER"))
        ticks += 1
        assert result == ({"RUNNING_MODAL"} if slow.told is None else {"FINISHED"})
    assert 2 <= ticks <= 20
    assert slow.told == 42
    shares = context.window_manager.shares
    assert shares[-1] == "end"
    assert shares[:-1] == sorted(shares[:-1])
    assert context.window_manager.timers == 0


def test_escape_ends_the_steps_and_other_keys_do_not(context):
    slow = Slow()
    slow.modal(context, SimpleNamespace(type="TIMER"))
    assert slow.modal(context, SimpleNamespace(type="MOUSEMOVE")) == {"RUNNING_MODAL"}
    assert not slow.closed
    assert slow.modal(context, SimpleNamespace(type="ESC")) == {"CANCELLED"}
    assert slow.closed
    assert slow.told is None
    assert context.window_manager.timers == 0
