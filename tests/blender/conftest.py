"""Runs every Blender test in an empty factory file and leaves the process in the one safe way. No test data here."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import pytest

from dir_core.hand_model import open_hand_models

_exit_code = 0


@pytest.fixture(autouse=True)
def empty_file() -> Iterator[None]:
    """An empty factory file around each test."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield
    bpy.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """The open hand models of both sides."""
    return open_hand_models()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember how the session went."""
    global _exit_code  # noqa: PLW0603 - pytest_unconfigure is not told
    _exit_code = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Python's own exit, in which bpy 4.2 can crash and 4.5 hang."""
    session = Path(bpy.app.tempdir)
    if session.name.startswith("blender_"):
        shutil.rmtree(session, ignore_errors=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code)
