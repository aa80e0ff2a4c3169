"""Benchmarks' files as a person has them in a folder."""

import json

import pytest

from tests.evaluate.benchmark.conftest import official


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    for name, rows in official().items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
