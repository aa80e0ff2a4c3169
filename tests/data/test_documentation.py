import heapq
import importlib
import inspect
import json
import statistics
import textwrap
from pathlib import Path
from types import ModuleType

import numpy
import pytest

from journey.data import documentation
from journey.data.documentation import clean, parse, worth_reading
from journey.data.exports import public_names

LONG = "Return the sum of all the elements over the given axis of an array."


def only(source: str, name: str = "package.module") -> documentation.Entry:
    (entry,) = parse(name, source).entries
    return entry


@pytest.mark.parametrize("module", [json, heapq, statistics, textwrap], ids=lambda module: module.__name__)
def test_finds_what_inspect_finds(module: ModuleType) -> None:
    """The oracle: import the module and ask `inspect` for signature and docstring of each public function."""
    found = {e.name: e for e in parse(module.__name__, Path(inspect.getfile(module)).read_text("utf-8")).entries}
    checked = 0
    for name, function in inspect.getmembers(module, inspect.isfunction):
        doc = clean(function.__doc__ or "")
        if function.__module__ == module.__name__ and worth_reading(doc) and not name.startswith("_"):
            assert found[name].doc == doc
            assert found[name].parameters == [
                p.name
                for p in inspect.signature(function).parameters.values()
                if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            ]
            checked += 1
    assert checked >= 2


def test_signature_loses_annotations_and_self() -> None:
    entry = only(f'class A:\n    def f(self, x: int, /, ord: str | None = None, *, axis=(1, 2)):\n        """{LONG}"""')
    assert (entry.name, entry.kind) == ("A.f", "method")
    assert entry.signature == "(x, /, ord=None, *, axis=(1, 2))"
    assert entry.parameters == ["x", "ord", "axis"]


def test_method_whose_only_positional_only_parameter_is_self() -> None:
    entry = only(f'class A:\n    def f(self, /, x=1):\n        """{LONG}"""')
    assert entry.signature == "(x=1)"
    entry = only(f'class A:\n    def f(self=None, x=1):\n        """{LONG}"""')
    assert entry.signature == "(x=1)"


def test_static_method_keeps_its_first_parameter_and_property_has_no_signature() -> None:
    static = only(f'class A:\n    @staticmethod\n    def f(x):\n        """{LONG}"""')
    assert static.signature == "(x)"
    prop = only(f'class A:\n    @functools.cached_property\n    def f(self):\n        """{LONG}"""')
    assert (prop.signature, prop.kind) == ("", "attribute")


def test_long_signature_is_cut_at_a_parameter() -> None:
    names = ", ".join(f"parameter_{i}=None" for i in range(40))
    entry = only(f'def f({names}):\n    """{LONG}"""')
    assert len(entry.signature) <= documentation.LONGEST_SIGNATURE
    assert entry.signature.startswith("(parameter_0, parameter_1, ") and entry.signature.endswith(", ...)")
    assert len(entry.parameters) == 40


def test_clean_removes_markup_licences_and_control_characters() -> None:
    text = clean(
        "Calls :func:`~torch.abs` and [`~Trainer.train`], see :ref:`the notes <notes>`.\n\n"
        "    <Tip warning={true}>\n\n\n\n    Careful\x00 here.   \n\n    </Tip>\n\n"
        "    Copyright 2020 The Authors. All rights reserved."
    )
    assert text == "Calls `torch.abs` and `Trainer.train`, see `the notes`.\n\nCareful here."


@pytest.mark.parametrize(
    "text", ["Too short.", "| 0.1 | 0.2 | 0.3 |\n" * 9, ">>> f(1)\n2\n" * 9, "```python\nmodel = Model()\n```\n" * 4]
)
def test_what_is_not_worth_reading(text: str) -> None:
    assert not worth_reading(text)
    assert worth_reading(LONG + "\n\n>>> f(1)\n" + text)  # an example may look like anything


def test_docstrings_that_torch_attaches() -> None:
    source = f'''
common = merge_dicts(parse_kwargs("""
    input (Tensor): the input tensor.
    out (Tensor, optional): the output tensor,
        if any.
"""), {{"note": "A note."}})
add_docstr(torch.add, r"""
add(input, other, *, out=None) -> Tensor

{LONG}""" + r"""

Args:
    {{input}}
    {{out}} {{note}} in {{{{braces}}}}{{unknown}}
""".format(**common))
cross = _add_docstr(_linalg.linalg_cross, "linalg.cross(a, b) -> Tensor\\n\\n{LONG}")
add_docstr_all("view", "view(*shape) -> Tensor\\n\\n{LONG}")
'''
    add, cross, view = parse("torch.linalg", source).entries
    assert (add.module, add.name, add.signature) == ("torch", "add", "(input, other, *, out=None)")
    assert add.parameters == ["input", "other", "out"]
    assert add.doc == (
        f"{LONG}\n\nArgs:\n    input (Tensor): the input tensor.\n"
        "    out (Tensor, optional): the output tensor,\n        if any. A note. in {braces}"
    )
    assert (cross.module, cross.name, cross.signature) == ("torch.linalg", "cross", "(a, b)")
    assert (view.module, view.name, view.kind) == ("torch.Tensor", "view", "method")


def test_docstrings_that_numpy_attaches() -> None:
    source = f'''
add_newdoc('numpy._core.multiarray', 'array', """
    array(
        object, *, like=None,
    )
    --

    array(object, *, like=None)

    {LONG}
    """)
add_newdoc('numpy._core', 'flatiter', ('copy', """
    copy($self, /)
    --

    {LONG}
    """))
add_newdoc('ArrayLike', 'typing.Union[...]', "{LONG}")
'''
    array, copy = parse("numpy._core._add_newdocs", source).entries
    assert (array.module, array.name, array.signature) == ("numpy", "array", "(object, *, like=None)")
    assert (copy.name, copy.signature, copy.kind, copy.doc) == ("flatiter.copy", "()", "method", LONG)


def test_file_of_another_python_yields_nothing() -> None:
    assert parse("m", "print 'hello'").entries == []


def test_worker_finds_what_the_process_itself_finds(tmp_path: Path) -> None:
    paths = [("statistics", statistics.__file__), ("json", json.__file__)]
    reported = []
    modules = documentation.collect(paths, 2, lambda done, total: reported.append((done, total)))
    assert modules == [parse(name, Path(path).read_text("utf-8")) for name, path in paths]
    assert reported == [(2, 2)]


def test_stopping_does_not_read_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "BATCH", 1)
    batches = []
    monkeypatch.setattr(documentation, "work", lambda batch: batches.append(batch) or '{"name": "m", "entries": []}')

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        documentation.collect([("m", "p")] * 10_000, 1, stop)
    assert len(batches) < 10_000


def test_public_names_follow_reexports() -> None:
    modules = [
        parse("p", "from ._core import norm, other as alias\nfrom .sub import *\nfrom . import linalg"),
        parse("p.linalg", ""),
        parse("p.linalg.lapack", "from ..._low import solve"),
        parse("p._low", "def solve(): pass"),
        parse("p._core", "from ._impl import *\nfrom .. import sub"),
        parse("p._core._impl", "__all__ = ['norm', 'other']\ndef norm(): pass\ndef other(): pass\ndef hidden(): pass"),
        parse("p.sub", "from p.sub.deep import Long, _private"),
        parse("p.sub.deep", "class Long: pass\nclass _private: pass"),
    ]
    names = public_names(modules, {"p", "p._core", "p.sub", "p.linalg", "p.linalg.lapack"})
    assert names["p._core._impl.norm"] == "p.norm"
    assert names["p._core._impl.other"] == "p.alias"
    assert names["p.sub.deep.Long"] == "p.Long"
    assert names["p._low.solve"] == "p.linalg.lapack.solve"  # longer, but public
    assert "p._core._impl.hidden" not in names and "p.sub.deep._private" not in names


def test_public_names_are_importable() -> None:
    """The oracle: numpy itself has what we say it has, and it is the same object."""
    root = Path(numpy.__file__).parent
    paths = [p for p in root.rglob("*.py") if not {"tests", "f2py", "distutils"} & set(p.parts)]
    dotted = [".".join(p.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__") for p in paths]
    modules = [parse(name, path.read_text("utf-8")) for name, path in zip(dotted, paths, strict=True)]
    names = public_names(modules, {name for name, path in zip(dotted, paths, strict=True) if path.stem == "__init__"})
    assert names["numpy.linalg._linalg.norm"] == "numpy.linalg.norm"
    assert names["numpy._core.fromnumeric.sum"] == "numpy.sum"
    wrong = []
    for public in names.values():
        module, _, attribute = public.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            wrong.append(public)
    assert len(names) > 300 and wrong == ["numpy.PytestTester"]  # which numpy deletes after use
