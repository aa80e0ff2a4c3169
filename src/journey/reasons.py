"""Why a step of a plan has to be made: what differs from the node that stood under its name in the last plan."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from journey.checkpoint import LINEAGE, open_node
from journey.fields import defaults
from journey.recipe import Step
from journey.stages import load

_SHOWN = 3  # changes, of many


def reason(
    step: Step, id: str, parents: Sequence[str], inputs: Mapping[str, str], workspace: Path, last: dict[str, Any] | None
) -> str:
    """In a few words, as `tokens 1,900,000 → 2,000,000`. `parents` are ids, `inputs` what the config's data stands for,
    `last` is the entry of the step's name in the last plan of the workspace."""
    if last is None:
        return "new"
    if last["id"] == id:
        begun = (workspace / "nodes" / f".work-{id[:12]}").exists()
        return "goes on where it was stopped" if begun else "not made yet"
    if not (workspace / last["path"] / LINEAGE).exists():
        return "new"
    changes = _changes(step, parents, inputs, last, open_node(workspace / last["path"]).lineage)
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(changes[:_SHOWN]) + more


def remade(step: Step, anew: set[str]) -> str:
    """Of a step that is made anew because something it is made from is."""
    if anew & {*step.parents}:
        return "its parent is new"
    field, name = next((field, name) for field, name in step.given.items() if name in anew)
    return f'its {field} "{name}" is new'


def _changes(
    step: Step, parents: Sequence[str], inputs: Mapping[str, str], last: dict[str, Any], old: dict[str, Any]
) -> list[str]:
    if old["stage"] != step.stage:
        return [f"stage {old['stage']} → {step.stage}"]
    stage, config = load(step.stage), json.loads(json.dumps(dataclasses.asdict(step.config)))
    usual: dict[str, Any] = json.loads(json.dumps(defaults(step.config)))
    changes = []
    if old["version"] != stage.version:
        changes.append(f"new version ({old['version']} → {stage.version})")
    for key, value in config.items():
        stood = old["data"].get(key, {})
        if key in inputs or stood:
            if inputs.get(key) != stood.get("id", stood.get("fingerprint")):
                changes.append(_data(key, step, old["config"].get(key), value))
        elif value != old["config"].get(key, usual[key]):
            changes.append(f"{key} {_shown(old['config'].get(key, usual[key]))} → {_shown(value)}")
    changes += [f"{key} no more a setting" for key in old["config"].keys() - config.keys()]
    if list(parents) != old["parents"]:
        moved = last["parents"] != list(step.parents)
        parent = f"parent {', '.join(last['parents'])} → {', '.join(step.parents)}"
        changes.append(parent if moved else "its parent is new")
    if step.seed != old["seed"]:
        changes.append(f"seed {old['seed']} → {step.seed}")
    return list(dict.fromkeys(changes))


def _data(field: str, step: Step, before: Any, now: Any) -> str:
    """Of a field whose data is not what it was."""
    if before != now:
        return f"{field} {_shown(before)} → {_shown(now)}"
    if field in step.given:
        return f'its {field} "{step.given[field]}" is new'
    if any(name.startswith(f"{field}:") for name in step.given):
        return f"a text of its {field} is new"
    named = any(f.name == field and "input" in f.metadata for f in dataclasses.fields(step.config))
    return (
        "its files have changed" if named or Path(str(now)).exists() else f"what {field} {now} stands for has changed"
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value)) or "none"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
