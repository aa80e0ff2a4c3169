"""The small recipe that is swept here: a text, a tokenizer and a model of seconds. Each test adds its own sweep."""

RECIPE = """\
name: small
seed: 5
stages:
  - name: docs
    stage: text
    with: {{source: {texts}/prose.jsonl}}
  - name: tokenizer
    stage: tokenizer
    with: {{data: docs, vocab_size: 300}}
  - name: base
    stage: pretrain
    parents: [tokenizer]
    with: {{data: docs, n_layer: 1, n_embd: 32, n_ctx: 64, tokens: 8_192, evaluations: 1}}
"""


def write(folder, texts, rest):
    """The recipe in a file, with what a test adds to it: further stages, `sweep:`, `measure:`."""
    path = folder / "small.yaml"
    path.write_text(RECIPE.format(texts=texts) + rest)
    return path
