"""How this process shares the machine with others."""

import os
import subprocess
import sys

import pytest

from journey.machine import SPINS, device, share_cores


@pytest.fixture
def unset(monkeypatch):
    for key in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(key, raising=False)
    return monkeypatch


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux alone")
def test_torch_reads_what_journey_sets(unset):
    """By libgomp's own word: it shows its settings when it is loaded."""
    unset.setenv("OMP_DISPLAY_ENV", "verbose")
    command = [sys.executable, "-c", "import journey, torch"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in shown


def test_a_users_own_setting_stays(unset):
    unset.setenv("GOMP_SPINCOUNT", "5")
    share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "5"


def test_a_users_own_policy_stays(unset):
    """GOMP_SPINCOUNT would overrule it."""
    unset.setenv("OMP_WAIT_POLICY", "active")
    share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ


@pytest.mark.parametrize(("free", "place"), [(41e9, "cuda"), (39e9, "cpu")])
def test_a_model_goes_where_it_has_room(monkeypatch, free, place):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(free), int(80e9)))
    assert (device(), device(32e9)) == ("cuda", place)


def test_without_a_gpu_it_is_the_cpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device() == device(1) == "cpu"
