"""Models with random weights: speed asks nothing of what they know."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from string import ascii_lowercase

from journey.errors import JourneyError, nearest
from journey.model.sizes import SIZES
from journey.stages.pretrain import Pretrain
from journey.tokenizer.codec import Merge

PREFIX = "random-"
NAMES = tuple(f"{PREFIX}{size}" for size in SIZES)
# Entries of the vocabulary by how a size's name begins: of the models that the sizes are known from, GPT-2's and
# Llama 3's, and the pocket recipe's. It is a large part of a small model.
VOCABULARIES = {"gpt2": 50_257, "llama": 128_256, "pocket": 4_096}


def is_one(name: str) -> bool:
    """Whether a name is meant as a yardstick's: no folder is called so."""
    return name.startswith(PREFIX) and not Path(name).exists()


def write(name: str, folder: Path) -> None:
    """A model of a size with random weights, as a Hugging Face folder, with a tokenizer as large as that size's own.

    Errors: JourneyError for a name that is none of NAMES.
    """
    import torch

    from journey.model import huggingface
    from journey.model.gpt import GPT
    from journey.tokenizer.formats import SPECIALS, Tokenizer

    if name not in NAMES:
        raise JourneyError(f'no yardstick "{name}"{nearest(name, NAMES)} (there are: {", ".join(NAMES)})')
    size = name.removeprefix(PREFIX)
    entries = VOCABULARIES[size.partition("-")[0]]
    tokenizer = Tokenizer.from_merges(list(islice(_merges(), entries - 256 - len(SPECIALS))))
    shape = Pretrain(size=size).shape(entries)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(shape)
    huggingface.save(model, folder, bos=tokenizer.bos, eos=tokenizer.eos, pad=tokenizer.pad)
    tokenizer.save(folder)


def _merges() -> Iterator[Merge]:
    """Merges without end: all words of two letters, then of three, …, each of a shorter one and a letter."""
    words = list(ascii_lowercase)
    for word in words:
        for letter in ascii_lowercase:
            yield word, letter
            words.append(word + letter)
