"""What is done, so that it can be timed."""

from dataclasses import dataclass, replace

from journey.errors import JourneyError
from journey.fields import Amount, Count, check_config

AFTER = 16  # tokens of the prompt after which decoding is timed: each step reads little but the weights


@dataclass(frozen=True)
class Work:
    """What every subject does in a round: read a prompt, and go on with each number of texts at once."""

    prompt: Count = 512
    """Tokens of the prompt that is read."""
    tokens: Count = 32
    """Tokens that are written after a short one, each text."""
    batch: tuple[Count, ...] = (1, 8, 32)
    """How many texts at once."""
    rounds: Count = 6
    """How often; fewer than six give no interval of a median."""

    documents: Amount = 40
    """Held-out documents of each of the journey's texts, for bits per byte (0: none); a yardstick knows none."""

    def __post_init__(self) -> None:
        check_config(self)
        if not self.batch or min(self.batch) < 1 or len({*self.batch}) < len(self.batch):
            raise JourneyError("--batch names numbers of texts, at least 1, each once: as in --batch 1 8 32")

    def within(self, n_ctx: int) -> "Work":
        """As much of it as a context has room for."""
        room = n_ctx - 1
        return replace(self, prompt=min(self.prompt, room), tokens=min(self.tokens, room - self.after(n_ctx)))

    def after(self, n_ctx: int) -> int:
        """Tokens of the prompts after which it decodes."""
        return min(AFTER, n_ctx // 2)
