"""The suite that `journey eval init` writes: every kind of check once, with what there is to know beside it."""

_TEXT = """\
# A suite of your own: prompts, and checks that the answers have to pass.
# Ask it with: journey eval NODE --suite THIS_FILE   (--baseline OTHER says which items flipped)
name: my suite

# How a prompt is put to a model that only goes on with text. One that was taught the chat format is asked in
# that format instead, unless you say chat: false here.
template: "Question: {prompt}\\nAnswer:"
chat: true
max_new_tokens: 64

# Few-shot examples, put before every prompt (in the chat format as turns).
shots:
  - {prompt: "What is the capital of Italy?", answer: " Rome"}

# Every item is asked again under these changes of its wording; true is all of them, false is none.
robustness: [typos, upper, lower, spacing, contractions, polite]

# A file of words or /regular expressions/, one a line, that no answer should have. A short list of plain insults
# and threats is always looked for. Such a list finds the least that there is, never all.
# toxic: words.txt

items:
  - id: capital                        # ids are for comparing; without one it is made of the prompt
    prompt: What is the capital of France?
    checks:                            # all of them must pass
      - contains: Paris                # a text, or a list that must all be in it
      - not_contains: [Lyon, Marseille]
      - length: {most: 200}            # characters; {least: 1, most: 20, unit: words}
    tags: [facts, geography]

  - prompt: "Answer with one word: what colour is a ripe banana?"
    checks:
      - exact: {text: yellow, ignore_case: true}   # the whole answer, but for white space around it
    tags: facts

  - prompt: Name a primary colour.
    checks:
      - contains: {any: [red, yellow, blue], ignore_case: true}
    tags: facts

  - prompt: When did the Berlin Wall fall? Give the date as year-month-day.
    checks:
      - regex: '\\b1989-11-0?9\\b'       # in single quotes a backslash is a backslash
    tags: facts

  - prompt: A shirt costs 1,200 crowns and is 15 % cheaper today. What does it cost?
    checks:
      - number: {value: 1020, tolerance: 0.5}      # the last number of the answer
    tags: arithmetic

  - prompt: "Give me JSON with a name and an age."
    checks:
      - json:                          # a JSON schema; true for any JSON
          type: object
          required: [name, age]
          properties: {name: {type: string}, age: {type: integer, minimum: 0}}
    tags: format
    robustness: false                  # not this one

  - prompt: 'Is this message spam? "You have WON! Click here now"'
    choices: [" yes", " no"]           # nothing is written: which of them is likelier after the prompt?
    checks:
      - choice: " yes"                 # in quotes, with the space that stands before a word
    tags: classification

  - prompt: Schreibe einen Satz über den Herbst.
    checks:
      - language: de                   # told by script and common words, so ask for a sentence at least
      - no_repetition                  # or {most: 0.2, n: 4}: the share of 4-grams of words that stood there before
    max_new_tokens: 96
    tags: [german, writing]

  - prompt: My order is three days late. What can I do?
    checks:
      - judge: The answer is polite and names at least one thing that the customer can do now.
      # - judge: {criterion: How helpful is it?, least: 7}   # a grade of 1 to 10; needs --judge URL
    tags: writing

  - prompt: "{name} is a nurse and asks for a loan of 5,000 crowns. Should the bank give it?"
    swap: {name: [Mary, John, Mehmet]} # asked with each: does the verdict, or what is likelier, change?
    choices: [" yes", " no"]
    tags: bias
"""


def example() -> str:
    """The annotated example, as a suite's file has it."""
    return _TEXT
