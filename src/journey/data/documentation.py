"""Docstrings of installed packages, read with `ast` and never by import.

This file imports the standard library alone: it is also the worker that `collect` starts, several at a time, as
`python -I documentation.py`. A plain child process dies of a broken pipe when its parent is killed; a pool's would not.
"""

import ast
import gc
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

LONGEST_SIGNATURE = 200  # characters; a longer one loses its default values first, then its last parameters
MINIMUM = 60  # characters; a shorter docstring says nothing the name did not
BATCH = 200  # files a worker reads before it reports


@dataclass
class Entry:
    """One docstring: where it stands, what it documents, and the cleaned text."""

    module: str
    name: str  # inside the module, "" for the module itself
    kind: str  # module, class, function, method, attribute
    signature: str  # "(x, ord=None)", or "" for a module or a property
    parameters: list[str]
    doc: str


@dataclass
class Module:
    """What one file holds: its docstrings, and the names it offers or passes on from other modules."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    defined: list[str] = field(default_factory=list)
    exported: list[str] | None = None  # __all__
    imported: list[list[str]] = field(default_factory=list)  # module, name or "*", name here


ROLE = re.compile(r":(?:py:|c:|std:)?[a-z]+:`+([^`]+)`+")
ROLE_TARGET = re.compile(r"^(.*?)\s*<[^<>]*>$", re.DOTALL)
HF_LINK = re.compile(r"\[`[~!]?([^`\]]+)`\](?:\([^)\s]*\))?")
DIRECTIVE = r"\.\. (?:index|currentmodule|module|moduleauthor|sectionauthor|autosummary|highlight|_[^:]*):.*"
TAG = r"</?(?:Tip|ExampleCodeTabs|frameworkcontent|pt|tf|jax|hfoptions?)\b[^>]*>"
MARKUP = re.compile(rf"^\s*(?:{TAG}|{DIRECTIVE})\s*$", re.MULTILINE)
EMPTY_NOTE = re.compile(r"^Note:\s*\n(?=\s*\n\S)", re.MULTILINE)
LEGAL = re.compile(
    r"copyright|\(c\) *(?:19|20)\d\d|licen[sc]ed (?:under|to)|all rights reserved|SPDX-License", re.IGNORECASE
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")


def clean(docstring: str) -> str:
    """The docstring as a person would print it: dedented, cross-reference markup and licence paragraphs removed."""
    text = inspect.cleandoc(CONTROL.sub("", docstring))
    text = ROLE.sub(lambda m: "`" + ROLE_TARGET.sub(r"\1", m[1]).lstrip("~!") + "`", text)
    text = HF_LINK.sub(r"`\1`", text)
    text = EMPTY_NOTE.sub("", MARKUP.sub("", text))
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    if LEGAL.search(text):
        text = "\n\n".join(part for part in text.split("\n\n") if not LEGAL.search(part))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def worth_reading(text: str) -> bool:
    """True for prose: long enough, and before its examples mostly letters (no table of numbers, no drawing)."""
    prose = re.split(r">>>|```|^ *(?:Example|\.\. math)", text, maxsplit=1, flags=re.MULTILINE)[0]
    letters = sum(map(str.isalpha, prose))
    return len(text) >= MINIMUM and letters >= 25 and letters > 0.6 * (len(prose) - sum(map(str.isspace, prose)))


def signature(arguments: ast.arguments, method: bool) -> tuple[str, list[str]]:
    """`(x, ord=None)` without annotations, and the parameters' names; the first parameter of a method is left out."""
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    stars = [a for a in (arguments.vararg, arguments.kwarg) if a]
    for argument in (*every, *stars):
        argument.annotation = None
    positional = arguments.posonlyargs or arguments.args
    if method and positional:
        every.remove(positional.pop(0))
        surplus = len(arguments.defaults) - len(arguments.posonlyargs) - len(arguments.args)
        arguments.defaults = arguments.defaults[max(surplus, 0) :]
    names = [argument.arg for argument in every]
    text = "(" + ast.unparse(arguments) + ")"
    if len(text) > LONGEST_SIGNATURE:
        text = "(" + ", ".join(names) + ")"
    while len(text) > LONGEST_SIGNATURE:
        text = text[: text.rindex(", ", 0, -6)] + ", ...)"
    return text, names


class Strings:
    """Values of the string expressions that torch and numpy build docstrings from (`+`, `.format(**common)`)."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: dict[str, object] = {}
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and isinstance(value, (ast.Constant, ast.Dict, ast.Call, ast.BinOp)):
                self.names[target.id] = self.value(value)

    def value(self, node: ast.AST) -> object:
        match node:
            case ast.Constant(value=str(constant)):
                return constant
            case ast.Name(id=name):
                return self.names.get(name)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                a, b = self.value(left), self.value(right)
                return a + b if isinstance(a, str) and isinstance(b, str) else None
            case ast.Dict(keys=keys, values=values):
                return {
                    k.value: self.value(v) or ""
                    for k, v in zip(keys, values, strict=True)
                    if isinstance(k, ast.Constant)
                }
            case ast.Call(func=ast.Name(id="parse_kwargs"), args=[argument]):
                text = self.value(argument)
                parts = re.split(r"\n\s{4}(?!\s)", text) if isinstance(text, str) else []
                return {part.strip().split(" ")[0]: part.strip() for part in parts if part.strip()}
            case ast.Call(func=ast.Name(id="merge_dicts"), args=arguments):
                tables = [self.value(argument) for argument in arguments]
                return {k: v for table in tables if isinstance(table, dict) for k, v in table.items()}
            case ast.Call(func=ast.Attribute(value=inner, attr="format"), keywords=keywords):
                return self.format(self.value(inner), keywords)
        return None

    def format(self, text: object, keywords: list[ast.keyword]) -> str | None:
        known: dict[str, object] = {}
        for keyword in keywords:
            value = self.value(keyword.value)
            known |= value if isinstance(value, dict) else {keyword.arg or "": value}
        if not isinstance(text, str):
            return None
        text = re.sub(r"(?<!\{)\{(\w+)\}(?!\})", lambda m: str(known.get(m[1]) or ""), text)
        return text.replace("{{", "{").replace("}}", "}")


def attached(call: ast.Call, target: str, module: str, strings: Strings) -> Entry | None:
    """What a call documents: torch's `add_docstr(object, text)`, or numpy's `add_newdoc(module, name, text)`.

    `target` is the name that the call's result is assigned to, or empty.
    """
    function = ast.unparse(call.func).split(".")[-1].lstrip("_")
    match function, call.args:
        case "add_newdoc", [ast.Constant(value=str(place)), ast.Constant(value=str(name)), text]:
            module = place.split("._")[0]  # numpy._core.multiarray.array is numpy.array to everybody
            if isinstance(text, ast.Tuple) and len(text.elts) == 2:
                name += f".{strings.value(text.elts[0])}"
                text = text.elts[1]
            if module.split(".")[0] != "numpy":
                return None
        case "array_method_doc", [ast.Constant(value=str(name)), _, text]:
            module = "numpy.ndarray"
        case "add_docstr_all", [ast.Constant(value=str(name)), text]:
            module = "torch.Tensor"
        case "add_docstr", [_, text] if target:
            name = target
        case "add_docstr", [documented, text]:
            module, _, name = ast.unparse(documented).rpartition(".")
        case _:
            return None
    doc = strings.value(text)
    return with_own_signature(Entry(module, name, "", "", [], doc)) if isinstance(doc, str) else None


def with_own_signature(entry: Entry) -> Entry:
    """Moves the signature that a C function's docstring opens with, such as `abs(input) -> Tensor`, to its place."""
    short = re.escape(entry.name.split(".")[-1])
    opening = re.compile(rf"(?:[\w.]*\.)?{short}(\((?:[^()]|\([^()]*\))*\))(?: *->.*)?(?:\n--)?(?:\n+|$)")
    text = inspect.cleandoc(entry.doc)
    arguments = ""
    while found := opening.match(text):
        arguments = arguments or re.sub(r"\s+", " ", found[1]).replace("( ", "(").replace(", )", ")")
        text = text[found.end() :]
    arguments = re.sub(r"\$self(, /)?(, )?", "", arguments)
    names = re.findall(r"(?:^\(|, |\[,? ?)([a-zA-Z_]\w*)", arguments)
    method = "." in entry.name or entry.module in ("torch.Tensor", "numpy.ndarray")
    kind = ("method" if method else "function") if arguments else ("attribute" if method else "class")
    return Entry(entry.module, entry.name, kind, arguments, names, text)


def parse(name: str, source: str) -> Module:
    """Reads one file's docstrings and names; a file that Python cannot parse yields none."""
    module = Module(name)
    try:
        tree = ast.parse(source)
    except SyntaxError:  # templates and files for another Python live among the packages' modules
        return module
    strings = Strings(tree) if "add_docstr" in source or "add_newdoc" in source else None

    def add(entry: Entry) -> None:
        entry.doc = clean(entry.doc)
        if worth_reading(entry.doc):
            module.entries.append(entry)

    def document(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, full: str, in_class: bool) -> None:
        doc = clean(ast.get_docstring(node, clean=False) or "")
        if worth_reading(doc):
            module.entries.append(Entry(name, full, *kind_and_signature(node, in_class), doc))

    def visit(body: list[ast.stmt], prefix: str, in_class: bool) -> None:
        for node in body:
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    full = prefix + node.name
                    if not prefix:
                        module.defined.append(node.name)
                    if prefix and is_private(node.name):
                        continue
                    document(node, full, in_class)
                    if isinstance(node, ast.ClassDef):
                        visit(node.body, full + ".", True)
                case ast.If() | ast.Try():
                    visit(node.body, prefix, in_class)
                    visit(node.orelse, prefix, in_class)
                case ast.ImportFrom() if not prefix:
                    source_module = "." * node.level + (node.module or "")
                    module.imported += [[source_module, a.name, a.asname or a.name] for a in node.names]
                case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=items) | ast.Tuple(elts=items)):
                    module.exported = [
                        i.value for i in items if isinstance(i, ast.Constant) and isinstance(i.value, str)
                    ]
            call = getattr(node, "value", None)
            if strings and isinstance(call, ast.Call):
                target = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
                if entry := attached(call, target, name, strings):
                    add(entry)

    doc = ast.get_docstring(tree, clean=False)
    if doc:
        add(Entry(name, "", "module", "", [], doc))
    visit(tree.body, "", False)
    return module


def kind_and_signature(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool
) -> tuple[str, str, list[str]]:
    """A class has the signature of its `__init__`, a property none."""
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name == "__init__":
                return "class", *signature(child.args, True)
        return "class", "", []
    decorators = {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}
    if any("property" in decorator for decorator in decorators) or "setter" in decorators:
        return "attribute", "", []
    kind = "method" if in_class else "function"
    return kind, *signature(node.args, in_class and "staticmethod" not in decorators)


def collect(files: list[tuple[str, str]], processes: int, progress: Callable[[int, int], None]) -> list[Module]:
    """Parses (module name, path) pairs in `processes` workers; the result is in the order of the files."""
    batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
    modules: list[Module] = []
    with ThreadPoolExecutor(processes) as pool:
        for output in pool.map(work, batches):
            for line in output.splitlines():
                item = json.loads(line)
                modules.append(Module(**item | {"entries": [Entry(**entry) for entry in item["entries"]]}))
            progress(len(modules), len(files))
    return modules


def work(batch: list[tuple[str, str]]) -> str:
    """What a worker prints about a batch; in its own process group, so that Ctrl-C is the parent's to handle."""
    command = [sys.executable, "-I", "-S", "-W", "ignore", __file__]
    done = subprocess.run(
        command, input=json.dumps(batch), stdout=subprocess.PIPE, encoding="utf-8", check=True, process_group=0
    )
    return done.stdout


def is_private(path: str) -> bool:
    """True when a part of a dotted path begins with an underscore and is no `__dunder__`."""
    return any(part.startswith("_") and not part.endswith("__") for part in path.split("."))


if __name__ == "__main__":
    gc.disable()  # syntax trees hold no cycles; looking for some costs a third of the time
    for module_name, path in json.load(sys.stdin):
        with open(path, encoding="utf-8", errors="replace") as stream:
            print(json.dumps(asdict(parse(module_name, stream.read()))))
