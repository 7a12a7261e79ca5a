"""What every test may ask for. No test data here."""

import signal
from pathlib import Path

import pytest

# A shell lets what it starts in the background ignore Ctrl-C, and the programs that tests stop would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the repository; tests that need it are skipped without it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"the reference material is not at {folder}")
    return folder


@pytest.fixture(scope="session")
def real(shared: Path) -> Path:
    """The folder with two pictures of InterHand2.6M."""
    folder = shared / "footage" / "interhand2.6m"
    if not folder.is_dir():
        pytest.skip(f"the two pictures of InterHand2.6M are not at {folder}")
    return folder
