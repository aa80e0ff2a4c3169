"""Benchmarks of a GGUF file in llama.cpp and of a node that a server runs, beside the node itself."""

import http.server
import json
import threading

import pytest
import torch

from journey.pair import open_pair


@pytest.fixture
def run(copy, data, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOURNEY_DATA", raising=False)
    at = ("--workspace", copy.workspace, "--data", data, "--items", "15", "--out", tmp_path / "there", "--json")
    return lambda *arguments: journey("eval", *arguments, *at)


class Server(http.server.ThreadingHTTPServer):
    """The completions API as vLLM has it, over a model of ours. `form` may change what it answers."""

    def __init__(self, folder):
        self.model, self.tokenizer = open_pair(folder)
        self.form = lambda answer: answer
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def choice(self, index, ids, body):
        if not body.get("echo"):
            return {"index": index, "text": f"#### {len(ids)}"}
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids]))[0].log_softmax(-1)
        each = [None, *(logits[t, ids[t + 1]].item() for t in range(len(ids) - 1)), -1.0]
        best = [None, *({"x": logits[t].max().item()} for t in range(len(ids) - 1)), {"x": -1.0}]
        return {"index": index, "text": "", "logprobs": {"token_logprobs": each, "top_logprobs": best}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choices = [self.server.choice(i, ids, body) for i, ids in enumerate(body["prompt"])]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.form({"choices": choices[::-1]})).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server(life):
    made = Server(life.node("chat").path)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


def test_a_served_node_gives_the_node_s_own_numbers(run, server):
    name = f"chat@{server.url}"
    output = run("chat", name, "--tasks", "piqa,lambada_openai")
    assert output.code == 0, output.err
    metrics = output.json["metrics"]
    for key in ("piqa.acc_norm", "lambada_openai.acc"):
        assert metrics[f"{name}.{key}"]["value"] == metrics[f"chat.{key}"]["value"]
    assert metrics[f"{name}.piqa.acc_norm vs chat"]["gained"] == 0
    assert "chat at 127.0.0.1" in metrics[f"{name}.piqa.acc_norm"]["convention"]


def test_a_server_writes_answers_too(run, server):
    output = run(f"chat@{server.url}", "--tasks", "gsm8k", "--shots", "0")
    assert output.code == 0, output.err


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (
            lambda answer: {"choices": [{"index": c["index"], "text": ""} for c in answer["choices"]]},
            "gives no log-prob",
        ),
        (lambda answer: {"choices": answer["choices"][:1]}, "is no completions API"),
        (lambda answer: ["what?"], "is no completions API"),
    ],
)
def test_a_server_without_log_probabilities_gives_no_number(run, server, form, said):
    server.form = form
    output = run(f"chat@{server.url}", "--tasks", "piqa")
    assert output.code in (1, 2) and said in output.json["error"] and not output.json["metrics"]


def test_a_gguf_file_stands_beside_the_model_it_was_made_of(life, run):
    (file,) = life.node("gguf").path.glob("*f16.gguf")
    output = run("preferred", file, "--tasks", "arc_easy,openbookqa")
    assert output.code == 0, output.err
    metrics = output.json["metrics"]
    for task in ("arc_easy", "openbookqa"):
        a, b = (metrics[f"{name}.{task}.acc_norm"]["value"] for name in ("preferred", file.name))
        assert abs(a - b) <= 100 / 15 + 1e-9  # one item of fifteen may lie on the edge
        assert "in llama.cpp" in metrics[f"{file.name}.{task}.acc_norm"]["convention"]
    assert "not looked at for test items: what" in output.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{file}", "--tasks", "gsm8k", "--shots", "0"), "of a GGUF file only likelihoods are measured"),
        (("{file}", "--tasks", "piqa", "--chat"), "of a GGUF file only likelihoods are measured"),
        (("{file}", "--tasks", "piqa", "--engine", "lm-eval"), "is its own engine"),
        (("{file}", "--tasks", "humaneval"), "humaneval runs on nodes alone"),
        (("nothing.gguf", "--tasks", "piqa"), "nothing.gguf"),
        (("nobody@http://127.0.0.1:9/v1", "--tasks", "piqa"), "nobody"),
    ],
)
def test_what_such_an_engine_cannot_be_asked_is_told_in_a_line(life, run, arguments, said):
    (file,) = life.node("gguf").path.glob("*f16.gguf")
    output = run(*(argument.format(file=file) for argument in arguments))
    assert output.code in (1, 2) and said in output.json["error"] and "\n" not in output.json["error"]
