"""Every translated word is one that the add-on shows; that Blender shows it is seen in a window."""

import re
from pathlib import Path

import pytest

import addon
from addon import translations

SOURCES = Path(addon.__file__).parent


@pytest.mark.parametrize("language", translations.LANGUAGES)
def test_every_word_of_a_table_is_shown_somewhere(language):
    shown = "\n".join(path.read_text("utf-8") for path in SOURCES.rglob("*.py") if path.name != "translations.py")
    words = set(re.findall(r'"((?:[^"\\\n]|\\.)*)"', shown))
    generated = {"Hand"}
    assert set(translations.LANGUAGES[language]) - words - generated == set()
