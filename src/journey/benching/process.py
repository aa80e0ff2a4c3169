"""A worker, as the process that has begun it sees it."""

import json
import os
import tempfile
from typing import Any

from journey import child, machine
from journey.benching.subject import Subject

_PATIENCE = 20.0  # seconds for a process to end that was told to
# How long threads of others wait awake: as libgomp has it by itself. With the few turns that suit ours
# (machine.share_cores), llama.cpp wrote 290 tokens a second of a pocket model instead of 9,800.
_SPINS = "300000"
_LESS = "name fewer subjects in --with, or a smaller --batch"


class EndedError(Exception):
    """A worker has ended, or cannot do what it is asked; why, in a line."""


class Process:
    """A subject in a process of its own, told what to do and waited for."""

    def __init__(self, subject: Subject, threads: int) -> None:
        around = {"CUDA_VISIBLE_DEVICES": ""}
        if subject.runtime != "ours" and os.environ.get("GOMP_SPINCOUNT") == str(machine.SPINS):
            around["GOMP_SPINCOUNT"] = _SPINS
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = child.start("journey.benching.worker", threads, self._errors, **around)

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """What `worker.Worker` answers to a command. Raises EndedError where it does not."""
        told, said = self._process.stdin, self._process.stdout
        assert told and said
        try:
            told.write(json.dumps({"do": do, "with": given}).encode() + b"\n")
            told.flush()
            line = said.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self._process.wait(_PATIENCE)
            raise EndedError(child.why(self._process, self._errors, _LESS))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EndedError(answer["error"])
        return answer

    def close(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe:
                pipe.close()
