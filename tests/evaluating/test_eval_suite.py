"""`journey eval --suite` and `--questions` as a person types them, on the small life and a judge of the test's own."""

import http.server
import json
import threading

import pytest

from journey.evaluate.likelihood import Continuation, likelihoods
from journey.evaluate.suite.running import Prompt
from journey.evaluate.suite.subject import Model
from journey.infer.engine import generate
from journey.pair import open_pair

SUITE = """\
name: small
template: "Question: {prompt}\\nAnswer:"
max_new_tokens: 12
robustness: [upper]
items:
  - {id: any, prompt: "What does the reader do?", checks: [{length: {most: 500}}], tags: [easy, other]}
  - {id: again, prompt: "What does the reader sort?", checks: [{length: {most: 500}}], tags: easy}
  - {id: never, prompt: "What?", checks: [{exact: "no model says this ~"}]}
  - {id: picks, prompt: "Is it?", choices: [" yes", " no"], checks: [{choice: " yes"}]}
  - {id: names, prompt: "{who} reads", swap: {who: [Ann, Bo]}, choices: [" it", " all"]}
  - {id: judged, prompt: Be polite., checks: [{judge: It is polite.}]}
"""


@pytest.fixture
def run(copy, journey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SUITE)

    def call(*arguments):
        return journey("eval", *arguments, "--workspace", copy.workspace, "--json")

    return call


@pytest.fixture
def judge():
    """An OpenAI-compatible server that says what `says` has, and fails from the `dies`-th request on."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            server.asked += 1
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = body["messages"][-1]["content"]
            failed = server.dies is not None and server.asked >= server.dies
            self.send_response(401 if failed else 200)
            self.end_headers()
            verdict = "BETTER: 1" if "BETTER" in text else "GRADE: 7" if "GRADE" in text else "MET: yes"
            self.wfile.write(json.dumps({"choices": [{"message": {"content": f"Well.\n{verdict}"}}]}).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.dies = 0, None
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_suite_shows_helm_s_views_what_failed_and_a_page(run, tmp_path):
    output = run("base", "chat", "--suite", "small.yaml")
    assert output.code == 0, output.err
    assert output.json["metrics"]["base.accuracy"]["n"] == 4  # of names nothing is checked, judged has no judge
    for said in ("accuracy", "  easy", "robustness", "bias: a swapped name", "tokens/s", 'expected exactly "no model'):
        assert said in output.err
    assert "base: asked plainly" in output.err and "chat: asked in the chat format" in output.err
    assert "there is no judge: give its URL with --judge" in output.err
    assert "chat against base: " in output.err
    page = (tmp_path / "measured" / "suite.html").read_text()
    assert "never" in page and "no model says this ~" in page and "Item by item" in page
    rows = json.loads((tmp_path / "measured" / "suite.json").read_text())["rows"]
    assert {row["variant"] for row in rows["base"]} == {"", "upper", "swap 1"}


def test_what_was_answered_is_not_asked_again_and_a_check_may_be_mended(run, tmp_path, monkeypatch):
    first = run("base", "--suite", "small.yaml").json["metrics"]

    def no(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(Model, "write", no)
    monkeypatch.setattr(Model, "logprobs", no)
    assert run("base", "--suite", "small.yaml").json["metrics"] == first
    (tmp_path / "small.yaml").write_text(SUITE.replace('{exact: "no model says this ~"}', "{length: {most: 500}}"))
    mended = run("base", "--suite", "small.yaml").json["metrics"]
    assert mended["base.accuracy"]["value"] == first["base.accuracy"]["value"] + 25


def test_a_judge_decides_and_one_that_fails_leaves_the_rest_undecided(run, judge, tmp_path):
    output = run("base", "--suite", "small.yaml", "--judge", judge.url)
    assert output.json["metrics"]["base.accuracy"]["n"] == 5 and judge.asked == 1
    (tmp_path / "small.yaml").write_text(SUITE.replace("It is polite.", "It is short."))
    judge.dies = 0
    output = run("base", "--suite", "small.yaml", "--judge", judge.url)
    assert output.code == 0 and output.json["metrics"]["base.accuracy"]["n"] == 4
    assert "answers 401: set OPENAI_API_KEY" in output.err


def test_questions_are_graded_and_compared_in_both_orders(run, judge, tmp_path):
    lines = [
        {"question_id": i, "category": "a" if i < 3 else "b", "turns": ["Who?", "And then?"][: 1 + i % 2]}
        for i in range(4)
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ("chat", "base", "--questions", "q.jsonl", "--judge", judge.url)
    judge.dies = 3
    partly = run(*asked)
    assert partly.code == 0 and "answers 401" in partly.json["failed"] and "answers have a grade" in partly.err
    judge.dies = None
    output = run(*asked)
    fresh = judge.asked - 3
    assert run(*asked).json["metrics"] == output.json["metrics"] and judge.asked == fresh + 3  # what was said is kept
    assert output.json["failed"] is None and output.json["metrics"]["chat.grade"]["value"] == 7
    # It always prefers what stands first: a bias, and no finding.
    assert output.json["metrics"]["base vs chat.tie"]["value"] == 4
    assert "the two orders disagreed on 100 %" in output.err
    assert run("chat", "--questions", "q.jsonl").json["error"].startswith("questions need a judge")


def test_init_writes_the_example_and_overwrites_nothing(run, tmp_path):
    assert run("init").code == 0 and (tmp_path / "suite.yaml").exists()
    assert "is there already" in run("init").json["error"]
    assert run("init", "other.yaml").code == 0
    output = run("base", "--suite", "other.yaml")
    assert output.code == 0, output.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("items: []\n", "small.yaml:1: items must be a list of at least one prompt"),
        ("items:\n  - prompt: a\n    cheks: []\n", 'small.yaml:3: unknown key "cheks", did you mean "checks"?'),
        ("", "a suite is a mapping with items"),
    ],
)
def test_a_mistake_in_a_suite_is_told_by_its_line(run, tmp_path, text, said):
    (tmp_path / "small.yaml").write_text(text)
    output = run("base", "--suite", "small.yaml")
    assert output.code == 2 and said in output.json["error"]


def test_ways_to_ask_stand_alone(run):
    assert "--tasks stands alone: leave out --suite" in run("base", "--tasks", "piqa", "--suite", "x").json["error"]
    assert (
        "tokenizer is a tokenizer node: only models can be asked"
        in run("tokenizer", "--suite", "small.yaml").json["error"]
    )


def test_a_subject_is_asked_as_it_was_taught(life):
    model, tokenizer = open_pair(life.node("chat").path)
    messages = ({"role": "user", "content": "Why?"},)
    prompt = Prompt("Question: Why?\nAnswer:", messages, 5, (" it reads", " no"))
    ids = {True: [tokenizer.special["<|user|>"], *tokenizer.encode("Why?"), tokenizer.special["<|assistant|>"]]}
    ids[False] = [tokenizer.bos, *tokenizer.encode(prompt.text)]
    for taught, options in ((True, ("it reads", "no")), (False, (" it reads", " no"))):
        subject = Model("x", model, tokenizer, taught)
        (scored,) = subject.logprobs([prompt])
        exact = likelihoods(model, [Continuation(ids[taught], tokenizer.encode(option)) for option in options])
        assert scored.logprobs == pytest.approx([each.logprob for each in exact])
        (written,) = subject.write([prompt])
        (completion,) = generate(model, [ids[taught]], max_new_tokens=5, stop=tokenizer.stop)
        assert (written.tokens, written.ended) == (len(completion.ids), completion.ended)


def test_a_prompt_too_long_is_cut_from_the_left_and_its_mark_stays(life):
    model, tokenizer = open_pair(life.node("base").path)
    subject = Model("x", model, tokenizer, taught=False)
    long = Prompt("window " * 200, (), 8, (" a",))
    ids, cut = subject._ids(long, model.config.n_ctx - 8)
    assert len(ids) == model.config.n_ctx - 8 and ids[0] == tokenizer.bos and cut > 0
    assert ids[1:] == tokenizer.encode(long.text)[-len(ids) + 1 :]
    assert subject.write([long])[0].cut == cut and subject.logprobs([long])[0].cut > 0
    assert subject.write([Prompt("a", (), 500)])[0].tokens <= model.config.n_ctx // 2  # room for a prompt
