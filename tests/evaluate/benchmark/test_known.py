"""OpenAI's GPT-2 124M scores what is published of it. It runs where a user has the weights: set JOURNEY_GPT2 to the
folder, or have them in Hugging Face's cache; and the benchmarks' files under JOURNEY_DATA."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("JOURNEY_DATA", "absent")) / "bench"
PUBLISHED = {  # lm-evaluation-harness, 0-shot
    "hellaswag.acc": (28.92, 0.2),  # of the local file twenty contexts of 10,042 may be cut otherwise than officially
    "hellaswag.acc_norm": (31.14, 0.2),
    "lambada_openai.acc": (32.56, 0.1),
    "lambada_openai.perplexity": (40.06, 0.1),
}


def weights():
    """The folder, if it is somewhere."""
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    found = [Path(os.environ["JOURNEY_GPT2"])] if "JOURNEY_GPT2" in os.environ else []
    for name in ("models--openai-community--gpt2", "models--gpt2"):
        found += sorted(cache.glob(f"{name}/snapshots/*"))
    return next((folder for folder in found if (folder / "model.safetensors").exists()), None)


@pytest.mark.slow
@pytest.mark.skipif(weights() is None, reason="OpenAI's GPT-2 124M is not here: JOURNEY_GPT2 names its folder")
@pytest.mark.skipif(not DATA.is_dir(), reason="the benchmarks are not here: JOURNEY_DATA names where they are")
def test_gpt2_124m_scores_what_is_published(journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = journey("import", weights(), "--out", tmp_path / "gpt2", "--json")
    assert made.code == 0, made.err
    journey("eval", tmp_path / "gpt2", "--tasks", "hellaswag,lambada_openai", "--data", DATA, "--json")
    shown = journey("eval", tmp_path / "gpt2", "--measure", "hellaswag", "--measure", "lambada_openai", "--json")
    for key, (value, within) in PUBLISHED.items():
        assert shown.json["metrics"][key]["value"] == pytest.approx(value, abs=within), key
