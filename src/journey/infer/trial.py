"""Whether a grammar can be compiled in a bounded time and memory, tried in a process of its own.

llguidance bounds most of what it does, but not all: numbers that are multiples of 10,000,019 take it a minute and two
gigabytes. It cannot be interrupted, and this process may have a model and other people's requests in it.
"""

import resource
import subprocess
import sys
from functools import lru_cache

from journey import child

SECONDS, MEMORY = 2, 2**30  # of one core; bytes of addresses, of which Python and llguidance take a quarter


@lru_cache(maxsize=64)
def compiles(grammar: str) -> bool:
    """Whether llguidance is done with a grammar, and with the first byte of its text, within `SECONDS` and `MEMORY`;
    what it finds to be wrong with it does not matter here. Takes a twentieth of a second, once for each grammar."""
    command, here = child.command(__name__), child.surroundings()
    try:
        tried = subprocess.run(command, input=grammar.encode(), env=here, capture_output=True, timeout=10 * SECONDS)
    except subprocess.TimeoutExpired:  # it was not given a core
        return False
    return tried.returncode == 0


def _try(grammar: str) -> None:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=LLParserLimits(verbose_errors=False))
    allowed = matcher.compute_logit_bias()
    if not matcher.is_error():
        matcher.consume_token(next(byte for byte, may in enumerate(allowed) if may))
        matcher.compute_logit_bias()


if __name__ == "__main__":
    for kind, most in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        already = resource.getrlimit(kind)[1]  # which a process cannot raise
        most = most if already == resource.RLIM_INFINITY else min(most, already)
        resource.setrlimit(kind, (most, most))
    _try(sys.stdin.buffer.read().decode())
