"""The cache in blocks of a few tokens, as an operating system has memory in pages (Kwon et al. 2023, arXiv 2309.06180).

A sequence holds whole blocks, wherever they lie. A full block has a name, the hash of its ids and of all before them:
who begins with the same ids shares it. What nobody holds stays until its place is needed, the longest unused first.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

BLOCK = 16  # tokens


class Blocks:
    """Which of `n` blocks is whose."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.holders = [0] * n
        self.names: list[bytes | None] = [None] * n
        self.by_name: dict[bytes, int] = {}
        self.unheld = OrderedDict.fromkeys(range(n))  # in the order in which they may be taken

    @property
    def free(self) -> int:
        """How many can be taken."""
        return len(self.unheld)

    def take(self) -> int:
        """A block that nobody holds, its contents forgotten."""
        block, _ = self.unheld.popitem(last=False)
        self.forget(block)
        self.holders[block] = 1
        return block

    def find(self, names: Sequence[bytes]) -> list[int]:
        """The blocks of the longest beginning that is there."""
        found = []
        for name in names:
            if (block := self.by_name.get(name)) is None:
                break
            found.append(block)
        return found

    def share(self, block: int) -> None:
        """One more holds this block."""
        if not self.holders[block]:
            del self.unheld[block]
        self.holders[block] += 1

    def name(self, block: int, name: bytes) -> None:
        """Say what a block holds. Of two with the same contents the first goes by the name."""
        if self.names[block] is None and name not in self.by_name:
            self.names[block], self.by_name[name] = name, block

    def forget(self, block: int) -> None:
        """Nobody is to share what this block holds."""
        if (name := self.names[block]) is not None:
            del self.by_name[name]
            self.names[block] = None

    def release(self, blocks: Sequence[int]) -> None:
        """Hold these no longer. A text's end is forgotten before its beginning, which others are likelier to share."""
        for block in reversed(blocks):
            self.holders[block] -= 1
            if not self.holders[block]:
                self.unheld[block] = None
                self.unheld.move_to_end(block, last=self.names[block] is not None)


def names(ids: Sequence[int], known: list[bytes]) -> list[bytes]:
    """The names of all whole blocks of ids; `known` are those of the first."""
    found = known[: len(ids) // BLOCK]
    for start in range(BLOCK * len(found), len(ids) - BLOCK + 1, BLOCK):
        before = found[-1] if found else b""
        found.append(
            hashlib.blake2b(before + array("q", ids[start : start + BLOCK]).tobytes(), digest_size=16).digest()
        )
    return found


def count(tokens: int) -> int:
    """Blocks that so many tokens need."""
    return -(-tokens // BLOCK)
