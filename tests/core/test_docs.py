"""What the documentation says is there: messages in the code, pages and pictures in the repository."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "tests" / "README.md"])


def messages_of_the_code() -> str:
    """Every text of the program, with `...` for each value that is put into it."""
    texts = []
    for package in ("addon", "dir_core"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values]
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts).replace('"...', "...").replace('..."', "...")


def test_every_message_in_troubleshooting_is_one_of_the_program() -> None:
    page = (ROOT / "docs" / "TROUBLESHOOTING.md").read_text("utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    code = messages_of_the_code()
    assert len(messages) > 20
    assert [message for message in messages if message not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
