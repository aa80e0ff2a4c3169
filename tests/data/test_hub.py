"""Files of the Hub, against a little server that speaks its protocol."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from journey.data.hub import local
from journey.errors import JourneyError

CONTENT = b'{"instruction": "Why?", "context": "", "response": "Because."}\n'
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = """
import json, sys
from journey.data.hub import local
from journey.errors import JourneyError
answers = []
for path in sys.argv[1:]:
    try:
        answers.append(local(path).read_text())
    except JourneyError as error:
        answers.append(f"error: {error}")
print(json.dumps(answers))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers for one file of one data set, as huggingface.co does."""

    asked: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        self.asked.append(f"{self.command} {self.path}")
        body = b""
        if self.path == "/datasets/owner/name/resolve/main/data/file.jsonl":
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            body = CONTENT
        elif self.path.startswith("/datasets/owner/name/"):
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
        elif self.path.startswith("/datasets/owner/gated/"):
            self.send_response(403)
            self.send_header("X-Error-Code", "GatedRepo")
        elif self.path.startswith("/datasets/owner/broken/"):
            self.send_response(418)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def ask(endpoint, home, *paths, **more):
    """In a process of its own: the Hub's library reads its settings when it is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment |= more
    found = subprocess.run([sys.executable, "-c", ASK, *paths], env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


def test_a_path_is_itself():
    assert local("texts/a.jsonl") == Path("texts/a.jsonl")


@pytest.mark.parametrize("path", ["hub:", "hub:owner", "hub:owner/name", "hub:owner/name/", "hub:/name/file.jsonl"])
def test_a_spelling_that_names_no_file_is_told(path):
    with pytest.raises(JourneyError, match="write hub:OWNER/NAME/FILE"):
        local(path)


def test_a_file_is_downloaded_once_and_what_fails_is_one_line(server, tmp_path):
    path = "hub:owner/name/data/file.jsonl"
    others = ["hub:owner/name/data/other.jsonl", "hub:owner/gated/f.jsonl", "hub:owner/broken/f.jsonl"]
    others += ["hub:nobody/nothing/f.jsonl", "hub:owner/na me/f.jsonl"]
    found, missing, gated, broken, unknown, no_name = ask(server, tmp_path, path, *others)
    assert found == CONTENT.decode()
    assert missing == "error: the dataset owner/name has no file data/other.jsonl: check the spelling on the Hub's page"
    assert gated.startswith("error: dataset owner/gated asks for your consent")
    assert broken.startswith("error: ") and "f.jsonl of the dataset owner/broken" in broken
    assert unknown.startswith("error: the Hub has no public dataset nobody/nothing")
    assert no_name.startswith('error: "owner/na me" is not a name on the Hub')
    assert all("\n" not in line for line in (missing, gated, broken, unknown, no_name))

    fetched = [line for line in Hub.asked if line.startswith("GET") and line.endswith("data/file.jsonl")]
    assert len(fetched) == 1
    assert ask("http://127.0.0.1:9", tmp_path, path) == [CONTENT.decode()]  # no one listens there
    (switched_off,) = ask(server, tmp_path / "empty", path, HF_HUB_OFFLINE="1")
    assert switched_off.startswith("error: data/file.jsonl of the dataset owner/name is not on this machine")
