"""The study that comes along, small."""

import json

import pytest


@pytest.mark.slow
def test_the_small_study_runs_and_says_what_is_better(journey, tmp_path):
    """On two megabytes of documentation and a few steps, 1,024 entries beat 300 by far."""
    output = journey("sweep", "vocab-size", "--smoke", "--workspace", tmp_path / "w", "--json")
    assert output.code == 0, output.err
    found = output.json["sweep"]
    assert len(found["points"]) == 4 and all(len(point["runs"]) == 2 for point in found["points"])
    flops = [point["facts"]["flops"] for point in found["points"] if point["values"]["budget"] == "equal FLOPs"]
    assert max(flops) < 1.1 * min(flops)
    text = [point["facts"]["text_bytes"] for point in found["points"] if point["values"]["budget"] == "equal text"]
    assert max(text) < 1.1 * min(text)
    worse = found["points"][0]["metrics"]["bits_per_byte.docs"]["against_best"]
    assert worse["low"] > 0.3
    page = (tmp_path / "w" / "sweep.html").read_text()
    assert "Best vocab_size on dev: 1,024" in page
    assert json.loads((tmp_path / "w" / "sweep.json").read_text()) == found
