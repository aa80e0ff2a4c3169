"""The law of a sweep: from its trainings to sweep.json, the page and the terminal."""

import json
import math
import re
from html import unescape

import pytest

from journey.errors import JourneyError
from journey.sweep import law_page
from journey.sweep.law import fit_of, law, lines, read_fit
from journey.sweep.page import page
from journey.sweep.plan import read

from .conftest import write
from .laws import PER_TOKEN, SIZES, TOKENS, TRUE, points, result


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return result(tmp_path_factory.mktemp("law"))


def fitted(tmp_path, made, train_bytes=14_000_000):
    (tmp_path / "corpus.json").write_text(json.dumps({"splits": {"train": {"bytes": train_bytes}}}))
    return law(made, "bits_per_byte.docs", {"docs": tmp_path}, resamples=3)


def test_the_law_of_the_trainings_is_found(known):
    found = known["law"]
    assert len(found["trainings"]) == 25 and found["left_out"] == []
    assert found["chinchilla"]["parameters"]["a"]["value"] == pytest.approx(TRUE.a, abs=0.06)
    assert found["chinchilla"]["error"] < 0.006 < found["kaplan"]["error"]
    first = found["trainings"][0]
    assert first["loss"] == pytest.approx(TRUE.loss(SIZES[0], TOKENS[0]), rel=0.02)  # nats, from bits per byte
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    optimum = found["optimum"]  # of a budget whose best model lies among those trained
    assert SIZES[0] < optimum["parameters"]["value"] < SIZES[-1] and optimum["tokens"]["value"] < TOKENS[-1]
    assert not any("lies outside" in sentence for sentence in found["said"])


def test_it_is_said_in_the_terminal_and_on_the_page_alike(known):
    text = "\n".join(lines(known["law"]))
    html = page(known)
    assert 'id="law"' in html and html.count("<svg") >= 4
    words = " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())
    for sentence in known["law"]["said"]:
        assert sentence in text
        assert " ".join(sentence.split()) in words
    assert "Left out" not in text
    for name in ("Hoffmann et al. 2022", "Besiroglu et al. 2024", "Kaplan et al. 2020"):
        assert name in html
    assert "nan" not in html.lower().replace("nanochat", "")


def test_without_a_law_there_is_no_section(known):
    assert law_page.sections({key: value for key, value in known.items() if key != "law"}) == []


def test_each_seed_is_a_training(tmp_path):
    assert len(fitted(tmp_path, points(seeds=2))["trainings"]) == 50


def test_what_was_read_twice_and_what_failed_is_left_out(tmp_path):
    """Repeats are no new tokens: 2.4 million tokens of 2.5 bytes are more than the text has here."""
    made = points(seeds=1)
    made[0] |= {"runs": [], "error": "the loss is not a number"}
    found = fitted(tmp_path, made, train_bytes=4_000_000)
    assert len(found["trainings"]) == 25 - 1 - len(SIZES) and max(t["tokens"] for t in found["trainings"]) == TOKENS[3]
    said = [line for line in lines(found) if line.startswith("Left out of the law")]
    assert len(said) == 6 and "failed" in said[0] and "read the text 1.5 times" in said[1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"sizes": SIZES[:2]}, "three sizes"),
        ({"tokens": TOKENS[:2]}, "three numbers of tokens"),
        ({"seeds": 0}, "three sizes"),
        ({"flops": math.nan}, "numbers above 0"),
    ],
)
def test_what_cannot_be_told_is_a_line_and_no_failure(tmp_path, given, why):
    made = result(tmp_path, **given)
    assert why in made["law"]["error"]
    assert why in "\n".join(lines(made["law"])) and why in page(made)
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(made["law"] | {"law": made["law"]}))
    with pytest.raises(JourneyError, match=why):
        read_fit(file)


def test_losses_of_several_tokenizers_have_no_common_law(tmp_path):
    made = points()
    made[3]["facts"]["bytes_per_token"] = 2 * PER_TOKEN
    assert "several tokenizers" in fitted(tmp_path, made)["error"]


def test_a_sweep_file_gives_its_fit_back(known, tmp_path):
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(known))
    fit, largest = read_fit(file)
    assert largest == pytest.approx(7 * SIZES[-1] * TOKENS[-1])
    assert fit == fit_of(known["law"]) and fit.n == 25 and len(fit.draws) == 20
    assert fit.estimate(lambda law: law.a).low == pytest.approx(
        known["law"]["chinchilla"]["parameters"]["a"]["low"], rel=1e-4
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "holds no law"),
        ('{"law": 3}', "holds no law"),
        ('{"law": {}}', "damaged"),
        ('{"law": {"trainings": [], "largest": "x", "chinchilla": {"law": [1], "draws": []}}}', "damaged"),
        (
            '{"law": {"trainings": [], "largest": 1, "chinchilla": {"law": [1, 1, 1, -1, 1], "draws": [], '
            '"error": 1}}}',
            "damaged",
        ),
    ],
)
def test_a_file_without_a_law_is_told(tmp_path, text, why):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(JourneyError, match=why):
        read_fit(tmp_path / "sweep.json")


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("  law: 3\n", "law must be true or false"),
        ("  law: true\n  metrics: [greedy_overlap]\n", "a law is of bits_per_byte.TEXT"),
    ],
)
def test_a_recipe_that_asks_wrongly_is_told_by_its_line(life, tmp_path, rest, why):
    path = write(tmp_path, life.texts, "sweep:\n  vary: {stages.base.tokens: [2_048, 4_096]}\n" + rest)
    with pytest.raises(JourneyError, match=rf"small.yaml:\d+: {why}"):
        read(path, [], False, [], 1, None)


@pytest.mark.slow
def test_the_sweep_that_comes_along_runs_and_gives_a_law_to_plan_by(journey, tmp_path):
    output = journey("sweep", "scaling-law", "--smoke", "--workspace", tmp_path / "w", "--json")
    assert output.code == 0, output.err
    found = output.json["sweep"]["law"]
    assert len(found["trainings"]) == 9 and {t["parameters"] for t in found["trainings"]} == {
        point["facts"]["parameters"] for point in output.json["sweep"]["points"]
    }
    node = json.loads(next(tmp_path.glob("w/nodes/base-*/lineage.json")).read_text())
    assert node["tokens"] in {t["tokens"] for t in found["trainings"]}
    fit, largest = read_fit(tmp_path / "w" / "sweep.json")
    assert fit.n == 9 and largest == max(t["flops"] for t in found["trainings"])
