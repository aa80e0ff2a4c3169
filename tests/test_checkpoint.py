"""Opening folders: ours, other people's, and what is none."""

import json

import pytest
import torch
from safetensors.torch import save_file

from journey.checkpoint import open_node
from journey.errors import JourneyError
from journey.model import huggingface


def test_a_node_knows_what_it_is(life):
    base, tokenizer = life.node("base"), life.node("tokenizer")
    assert (base.name, base.stage, base.is_model) == ("base", "pretrain", True)
    assert base.parents == [tokenizer.id] and not tokenizer.is_model
    assert len(base.id) == 64 and base.path.name == f"base-{base.id[:10]}"


def test_what_is_no_checkpoint_is_said_to_be_none(tmp_path):
    with pytest.raises(JourneyError, match="is not a folder"):
        open_node(tmp_path / "nothing")
    with pytest.raises(JourneyError, match="is not a checkpoint"):
        open_node(tmp_path)


def foreign(folder, weight=0.0, sharded=False):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"w": torch.tensor([weight])}, folder / ("model-1.safetensors" if sharded else "model.safetensors"))
    if sharded:
        index = {"metadata": {"total_size": 4}, "weight_map": {"w": "model-1.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return open_node(folder)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_folder_from_elsewhere_is_known_by_its_files_and_not_by_its_place(tmp_path, sharded):
    a, same, other = (foreign(tmp_path / n, w, sharded) for n, w in (("a", 0.5), ("b", 0.5), ("c", 0.25)))
    assert a.is_model and a.stage == "import" and a.parents == []
    assert a.id == same.id != other.id


def test_a_cut_off_weights_file_is_named(copy):
    weights = copy.node("base").path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(JourneyError, match=r"model\.safetensors") as error:
        huggingface.load(weights.parent)
    assert "\n" not in str(error.value)


def test_a_damaged_lineage_is_named(copy):
    path = copy.node("base").path / "lineage.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(JourneyError, match=r"lineage\.json is not JSON"):
        _ = open_node(path.parent).id
