"""Python source without its docstrings, so that code never contains the documentation held out elsewhere."""

import ast
import re

LEGAL = re.compile(r"copyright|licen[sc]ed|all rights reserved", re.IGNORECASE)


def without_docstrings(source: str) -> str:
    """The source with every bare string statement cut out and all else untouched; SyntaxError if it does not parse.

    A body that was only its docstring becomes `pass`, so the result still parses.
    """
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in UTF-8 bytes
    cuts: list[tuple[ast.stmt, bytes]] = []
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            bare = [statement for statement in body if is_bare_string(statement)]
            empty = len(bare) == len(body) and not isinstance(node, ast.Module)
            cuts += [(statement, b"pass" if empty and statement is bare[0] else b"") for statement in bare]
    for statement, instead in sorted(cuts, key=lambda cut: (cut[0].lineno, cut[0].col_offset), reverse=True):
        first, last = statement.lineno - 1, (statement.end_lineno or 0) - 1
        before, after = lines[first][: statement.col_offset], lines[last][statement.end_col_offset :]
        if not instead:
            after = after.lstrip(b"; ")
        line = before + instead + after
        lines[first : last + 1] = [line] if line.strip() else []
    return b"".join(lines).decode()


def is_bare_string(statement: ast.stmt) -> bool:
    """True for a docstring, or for a string that stands anywhere else with nothing done to it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def without_licence(source: str) -> str:
    """The source without its opening comment when that is a copyright notice, and without blank lines at its ends."""
    opening = re.match(r"(?:[ \t]*(?:#.*)?\n)*", source)
    if opening and LEGAL.search(opening[0]):
        source = source[opening.end() :]
    return re.sub(r"\n{4,}", "\n\n\n", source.strip("\n")) + "\n"
