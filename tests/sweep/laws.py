"""A finished sweep over sizes and tokens whose losses follow a law that is known, as `result` hands it to the law."""

import math

import numpy as np

from journey.evaluate.scaling import Chinchilla

TRUE = Chinchilla(1.3, 60.0, 300.0, 0.35, 0.42)
SIZES = (66e3, 133e3, 279e3, 584e3, 1198e3)
TOKENS = tuple(150e3 * 2**i for i in range(5))
PER_TOKEN = 2.5
AXES = ("size", "tokens")


def points(sizes=SIZES, tokens=TOKENS, noise=0.005, seeds=1, **facts):
    """The points of a sweep's result; `facts` replace those of every point."""
    rng, made = np.random.default_rng(0), []
    for N in sizes:
        for D in tokens:
            known = {"parameters": N, "body_parameters": 0.8 * N, "tokens": D, "flops": 7 * N * D}
            known |= {"bytes_per_token": PER_TOKEN, "text_bytes": D * PER_TOKEN} | facts
            losses = [TRUE.loss(N, D) * math.exp(rng.normal(0, noise)) for _ in range(seeds)]
            runs = [
                {"seed": i, "metrics": {"bits_per_byte.docs": {"test": loss / math.log(2) / PER_TOKEN}}}
                for i, loss in enumerate(losses)
            ]
            made.append({"values": {"size": f"{N:.0f}", "tokens": D}, "runs": runs, "facts": known})
    return made


def result(tmp_path, **given):
    """The content of a sweep.json with its law."""
    from journey.sweep.law import law

    (tmp_path / "corpus.json").write_text('{"splits": {"train": {"bytes": 14000000}}}')
    made = points(**given)
    found = {
        "name": "known",
        "recipe": "known.yaml",
        "of": "base",
        "seeds": [0],
        "axes": [{"name": name, "values": list(dict.fromkeys(p["values"][name] for p in made))} for name in AXES],
        "metrics": [{"name": "bits_per_byte.docs", "label": "bits per byte, docs", "better": "lower"}],
        "points": made,
        "x": "tokens",
        "law": law(made, "bits_per_byte.docs", {"docs": tmp_path}, resamples=20),
    }
    found["groups"] = [
        {"values": {"size": size}, "best": None}
        | {"points": [i for i, p in enumerate(made) if p["values"]["size"] == size]}
        for size in found["axes"][0]["values"]
    ]
    return found
