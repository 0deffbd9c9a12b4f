"""docs/troubleshooting.md quotes errors: each sentence still stands in the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(r"^\| (`.*?) \| ", (ROOT / "docs" / "troubleshooting.md").read_text(), re.M)
QUOTES = [quote for row in ROWS for quote in re.findall(r"`([^`]+)`", row)]


def sentences() -> list[str]:
    """Every text of the package, with "..." where a value is filled in."""
    found = []
    for file in sorted((ROOT / "samseg").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.fixture(scope="module")
def code() -> str:
    return "\n\0\n".join(sentences())


@pytest.mark.parametrize("quote", QUOTES)
def test_the_quoted_error_is_in_the_code(quote, code):
    words = [re.escape(part) for part in quote.split("...") if part.strip()]
    assert words, "a quote needs words of its own"
    found = re.search(r"[^\0]*?".join(words), code)
    assert found is not None, f"no error of samseg's says: {quote}"


def test_there_are_quotes():
    assert len(QUOTES) > 50
