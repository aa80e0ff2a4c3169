"""A measurement as a few numbers with 95 % intervals: for `journey eval` and the line of a finished stage."""

import dataclasses
from typing import Any

from journey.evaluate import statistics
from journey.report import estimates
from journey.report.later import GROUPS, used
from journey.stages.run import metric


def summary(measurement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The numbers of a measurement with their 95 % intervals, by name, in the shape of `--json`."""
    m = measurement
    found = {
        f"bits_per_byte.{k}": estimates.bits_per_byte(v["items"], v["convention"])
        for k, v in m.get("bits_per_byte", {}).items()
    }
    for corpus, marks in m.get("baselines", {}).items():
        found |= {f"bits_per_byte.{corpus}.{k}": estimates.bits_per_byte(marks[k]) for k in ("bigram", "trigram")}
    if "choices" in m:
        items = m["choices"]["items"]
        found["choices.acc"] = estimates.accuracy(items, "picked")
        found["choices.acc_norm"] = estimates.accuracy(items)
    if "repeat" in m:
        found["repeat.first"] = statistics.mean(m["repeat"]["first"], "nats/token")
        found["repeat.second"] = statistics.mean(m["repeat"]["second"], "nats/token")
    if "answers" in m:
        items = m["answers"]["items"]
        found |= {f"answer_loss.{p}": estimates.answer_loss(items, p) for p in ("right", "shuffled", "none")}
    if items := m.get("endings", {}).get("items"):
        found["ends_by_itself"] = estimates.ended(items)
        found["answer_length"] = estimates.answer_length(items)
        if all("f1" in i for i in items):
            found["answer_f1"] = estimates.answer_f1(items)
    if "preferences" in m:
        found["preference_accuracy"] = estimates.preference_accuracy(m["preferences"]["items"])
        found["policy_kl"] = estimates.policy_kl(m["preferences"]["kl"])
    if "quantized" in m:
        files = {"fp32": m["quantized"]["reference"], **m["quantized"]["types"]}
        found |= {f"bits_per_byte.{kind}": estimates.bits_per_byte(made["items"]) for kind, made in files.items()}
    if items := m.get("retrieval", {}).get("items"):
        by = used(m)
        for named, said in GROUPS.items():
            if len(estimates.asked(items, named)) > 1:
                key = said.replace(" ", "_")
                found[f"recall_at_5.{key}"] = estimates.recall(items, by, named)
                found[f"mrr_at_10.{key}"] = estimates.mrr(items, by, named)
        for passage in ("retrieved", "right", "shuffled", "none"):
            found[f"answer_loss.{passage}"] = estimates.answer_loss(items, passage)
            if all("f1" in i for i in items):
                found[f"answer_f1.{passage}"] = estimates.passage_f1(items, passage)
    return {
        name: metric(e.value, e.unit, e.convention, low=e.low, high=e.high, n=e.n)
        for name, e in found.items()
        if dataclasses.is_dataclass(e)
    }


def line(measurement: dict[str, Any]) -> str:
    """The numbers that matter most, in a few words."""
    metrics = summary(measurement)
    parts = [
        f"{key.split('.')[1]} {m['value']:.3f} bits/byte"
        for key, m in metrics.items()
        if key.count(".") == 1 and key.startswith("bits")
    ]
    if "ends_by_itself" in metrics:
        parts.append(f"{metrics['ends_by_itself']['value']:.0f} % of answers end by themselves")
    if "preference_accuracy" in metrics:
        parts.append(f"{metrics['preference_accuracy']['value']:.0f} % of held-out preferences told apart")
    parts += [
        f"recall@5 {m['value']:.0f} % ({key.partition('.')[2].replace('_', ' ')})"
        for key, m in metrics.items()
        if key.startswith("recall")
    ]
    return ", ".join(parts)
