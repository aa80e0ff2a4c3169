"""The page of `journey tokenizer explain`: one file that holds whatever was typed."""

from html.parser import HTMLParser

import pytest

from journey.tokenizer.explain import explain
from journey.tokenizer.formats import Tokenizer
from journey.verbs.explained import page

VOID = {"meta", "br", "wbr"}
HOSTILE = "</style><script>alert(1)</script> \"'& <img src=x onerror=y> \x00\x1b\u202e\ufffe é 👩‍👩‍👧 lower lower"


class Page(HTMLParser):
    """Checks that every tag is closed, and keeps tags and text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if "style" not in self.open:
            self.text += text


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_merges([("l", "o"), ("lo", "w"), ("e", "r"), ("Ġ", "low")])


def test_the_page_shows_every_merge_and_every_id(tokenizer):
    text = " lower é"
    shown = Page(page(explain(text, tokenizer), "mine", "gpt2", "A note"))
    new = [attributes for tag, attributes in shown.tags if attributes.get("class") == "new"]
    assert len(new) == 4 and all(f"rank {rank}" in shown.text for rank in range(4))
    assert all(str(id) in shown.text for id in tokenizer.encode(text))
    assert "9 bytes, 2 words, 5 tokens" in shown.text and "A note." in shown.text
    assert r"\xC3" in shown.text and "bytes 20 C3 A9" in shown.text


def test_a_hostile_text_stays_text_and_the_page_needs_nothing_else(tokenizer):
    text = page(explain(HOSTILE, tokenizer), "<b>mine</b>", "gpt2")
    shown = Page(text)
    tags = {tag for tag, _ in shown.tags}
    assert not tags & {"script", "img", "link", "iframe"} and "<b>mine" not in text
    assert not any(name.startswith("on") or name in ("src", "href") for _, found in shown.tags for name in found)
    assert all(outside not in text for outside in ("http://", "https://", "@import", "url("))
    assert not any(char in text for char in "\x00\x1b\u202e\ufffe")
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert shown.text.count("bytes 20 6C 6F 77 65 72") == 1  # a word that comes again is shown once


def test_an_empty_text_is_a_page_too(tokenizer):
    assert "0 bytes, 0 words, 0 tokens" in Page(page(explain("", tokenizer), "mine", "gpt2")).text
