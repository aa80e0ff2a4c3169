"""Libraries that say much: what a user is to see comes from us."""

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and remarks, and without what bitsandbytes says of kernels that it has not, and what
    libraries tell each other of names that will go."""
    from transformers.utils import logging as theirs

    bars, verbosity = theirs.is_progress_bar_enabled(), theirs.get_verbosity()
    bitsandbytes = logging.getLogger("bitsandbytes")
    level = bitsandbytes.level
    theirs.disable_progress_bar()
    theirs.set_verbosity_error()
    bitsandbytes.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        bitsandbytes.setLevel(level)
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()
