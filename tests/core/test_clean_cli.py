"""`python -m dir_core clean`: files in, files out, one sentence for a mistake, and a raw take is never lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from dir_core.clean import clean_take, read_recipe
from dir_core.clean_up.edits import Edit
from dir_core.clean_up.settings import CleanUpSettings
from dir_core.cli import main
from dir_core.hand_model import open_hand_models
from dir_core.take import load_take, save_take, take_digest
from tests.takes import make_raw_take

MODELS = open_hand_models()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    save_take(make_raw_take(MODELS, times=np.arange(40) / 30)[0], tmp_path / "raw.npz")
    return tmp_path / "raw.npz"


def clean(*arguments: object) -> int:
    return main(["clean", *map(str, arguments)])


def failing(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert clean(*arguments) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    return told


def test_a_raw_take_becomes_a_clean_one_with_report_and_plot(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = raw.parent
    before = raw.read_bytes()
    outputs = ["--report", folder / "clean.json", "--plot", folder / "curves.png"]
    assert clean(raw, "-o", folder / "clean.npz", "--strength", 1.5, "--fingers", 0.5, *outputs) == 0
    assert raw.read_bytes() == before
    recipe = read_recipe(load_take(folder / "clean.npz"))
    assert recipe is not None
    assert recipe.settings == CleanUpSettings(wrist_rotation=1.5, wrist_position=1.5, fingers=0.5)
    report = json.loads((folder / "clean.json").read_text())
    assert report["left"]["seen"] == report["frames"] == 40
    assert report["left"]["jitter_after"] < report["left"]["jitter_before"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "Left hand: seen in 40 of 40 frames" in capsys.readouterr().out


def test_a_clean_take_is_tuned_again_from_its_raw_one(raw: Path) -> None:
    folder = raw.parent
    first, second, third = (folder / f"{name}.npz" for name in ("first", "second", "third"))
    assert clean(raw, "-o", first, "--drop", "left:15-18", "--trust", "20-25=0.5", "--swap", "30") == 0
    edits = (Edit("drop", 15, 18, "left"), Edit("trust", 20, 25, None, 0.5), Edit("swap", 30, 30))
    assert clean(first, "-o", second, "--wrist-position", 3, "--contact", "off", "--drop", "right:40-41") == 0
    recipe = read_recipe(load_take(second))
    assert recipe is not None
    assert recipe.edits == (*edits, Edit("drop", 40, 41, "right"))
    assert recipe.settings == CleanUpSettings(wrist_position=3.0, contact="off")
    direct = clean_take(load_take(raw), MODELS, recipe.settings, recipe.edits, raw).take
    assert take_digest(direct) == take_digest(load_take(second))
    assert clean(second, "-o", third, "--forget-edits", "--contact", "hands", "--wrist-position", 1) == 0
    assert read_recipe(load_take(third)).edits == ()
    assert take_digest(load_take(third)) == take_digest(clean_take(load_take(raw), MODELS, raw_path=raw).take)


def test_a_clean_take_may_be_written_over_itself_and_a_raw_one_never(
    raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = raw.parent, raw.read_bytes()
    assert clean(raw, "-o", folder / "clean.npz") == 0
    assert clean(folder / "clean.npz", "-o", folder / "clean.npz", "--fingers", 2) == 0
    assert read_recipe(load_take(folder / "clean.npz")).settings.fingers == 2
    for source in (raw, folder / "clean.npz"):
        assert "never overwritten" in failing(capsys, source, "-o", raw)
    assert raw.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--strength", "7"], "give 0 to 4"),
        (["--fill", "-1"], "seconds, give 0 to"),
        (["--beyond", "vanish"], "still or hide"),
        (["--contact", "glue"], "off, hands, fingers"),
        (["--drop", "left:9-5"], "gives? the smaller|smaller one first"),
        (["--drop", "somewhere"], "Cannot read the drop edit"),
        (["--trust", "5-9"], "Cannot read the trust edit"),
        (["--swap", "900-950"], "touches no frame"),
        (["--report", "missing/folder/x.json"], "Cannot write"),
        (["--plot", "curves.xyz"], "png, svg or pdf"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    raw: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str
) -> None:
    import re

    monkeypatch.chdir(raw.parent)
    assert re.search(what, failing(capsys, raw, "-o", raw.parent / "clean.npz", *arguments))
    assert sorted(path.name for path in raw.parent.iterdir()) == ["raw.npz"]


def test_a_lost_raw_take_is_told(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert clean(raw, "-o", raw.parent / "clean.npz") == 0
    raw.unlink()
    assert "give the raw take" in failing(capsys, raw.parent / "clean.npz", "-o", raw.parent / "again.npz")


def test_a_clean_take_is_evaluated_against_what_was_seen(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = raw.parent
    assert clean(raw, "-o", folder / "clean.npz") == 0
    assert main(["evaluate", str(folder / "clean.npz"), "--report", str(folder / "figures.json")]) == 0
    assert 0.05 < json.loads((folder / "figures.json").read_text())["reprojection_percent"] < 5
    raw.unlink()
    assert main(["evaluate", str(folder / "clean.npz")]) == 2
    assert "give the raw take" in capsys.readouterr().err
