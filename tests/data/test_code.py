import ast
import sysconfig
from pathlib import Path

import pytest

from journey.data.code import is_bare_string, without_docstrings, without_licence


class Strip(ast.NodeTransformer):
    """The oracle: drop bare strings from the tree, where we drop them from the text."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not is_bare_string(s)]
            node.body = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])  # type: ignore[attr-defined]
        return node


@pytest.mark.parametrize("folder", ["json", "asyncio", "email", "unittest", "xml/dom"])
def test_the_rest_of_the_source_is_untouched(folder: str) -> None:
    checked = 0
    for path in sorted((Path(sysconfig.get_path("stdlib")) / folder).glob("*.py"))[:12]:
        source = path.read_text("utf-8")
        stripped = without_docstrings(source)
        assert ast.dump(ast.parse(stripped)) == ast.dump(Strip().visit(ast.parse(source))), path
        kept = set(stripped.splitlines())
        assert kept - set(source.splitlines()) <= {line for line in kept if line.strip() == "pass"}, path
        checked += 1
    assert checked > 4


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""Module."""\nx = 1\n', "x = 1\n"),
        ('def f():\n    """Only."""\n', "def f():\n    pass\n"),
        ('def f(): "one line"\n', "def f(): pass\n"),
        ('def f():\n    "doc"; return 1\n', "def f():\n    return 1\n"),
        ('def f():\n    """Über\n    zwei."""\n    return "é"  # ü\n', 'def f():\n    return "é"  # ü\n'),
        ('class A:\n    x = 1\n    """Attribute."""\n    y = "kept"\n', 'class A:\n    x = 1\n    y = "kept"\n'),
        ('class A:\n    """One."""\n    """Two."""\n', "class A:\n    pass\n"),
    ],
)
def test_docstrings(source: str, expected: str) -> None:
    assert without_docstrings(source) == expected


def test_licence_goes_and_other_comments_stay() -> None:
    assert (
        without_licence("#!/usr/bin/python\n# Copyright 2001 me\n#\n\nimport os\n\n\n\n\n\nx = 1\n")
        == "import os\n\n\nx = 1\n"
    )
    assert without_licence("# How this works:\nimport os\n") == "# How this works:\nimport os\n"
