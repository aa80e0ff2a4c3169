"""Python source without its docstrings, so that code never contains the documentation held out elsewhere."""

import ast
import re

LEGAL = re.compile(r"copyright|licen[sc]ed|all rights reserved", re.IGNORECASE)


def without_docstrings(source: str) -> str:
    """The source with every bare string statement cut out and all else untouched; SyntaxError if Python cannot parse it.

    A body that was only its docstring becomes `pass`, so the result still parses.
    """
    lines = source.encode().splitlines(keepends=True)  # ast counts columns in UTF-8 bytes
    bodies = [body for node in ast.walk(ast.parse(source)) if isinstance(body := getattr(node, "body", None), list)]
    cuts = []
    for body in bodies:
        bare = [s for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str)]
        keep_one = len(bare) == len(body) and body is not bodies[0]
        cuts += [(statement, b"pass" if keep_one and statement is bare[0] else b"") for statement in bare]
    for statement, instead in sorted(cuts, key=lambda cut: cut[0].lineno, reverse=True):
        first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
        before = lines[first][: statement.col_offset]
        after = lines[last][statement.end_col_offset or 0:]
        rest = before + instead + after.lstrip(b"; ") if instead or before.strip() else before + after.lstrip(b"; ")
        lines[first: last + 1] = [rest] if rest.strip() else []
    return b"".join(lines).decode()


def without_licence(source: str) -> str:
    """The source without its opening comment when that is a copyright notice, and without the blank lines at its ends."""
    opening = re.match(r"(?:[ \t]*(?:#.*)?\n)*", source)
    if opening and LEGAL.search(opening[0]):
        source = source[opening.end():]
    return re.sub(r"\n{4,}", "\n\n\n", source.strip("\n")) + "\n"
