"""What the Hugging Face Hub gives, and what it says when it does not.

`hub:OWNER/NAME/FILE` in a setting is a file of a public data set, downloaded once; as a source of text `hub:OWNER/NAME`
is the data set itself, read as it streams by (`data.hubset`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journey.errors import JourneyError

PREFIX = "hub:"
# Data sets with a name of their own, as sources of text.
SETS = {
    "fineweb-edu": "hub:HuggingFaceFW/fineweb-edu:sample-10BT",
    "the-pile": "hub:monology/pile-uncopyrighted",
    "redpajama": "hub:togethercomputer/RedPajama-Data-1T-Sample",
}


def spelled(source: str) -> str:
    """The full spelling of a source of text that is a data set of the Hub; empty for any other source, such as a folder
    here that has the name of one of SETS."""
    full = SETS.get(source, source) if not os.path.lexists(source) else source
    return full if full.startswith(PREFIX) else ""


def local(path: str) -> Path:
    """The file itself, or the local copy of `hub:owner/name/file`, a file of a public data set.

    Raises JourneyError for a spelling that names no file, for what is not there, and when the Hub cannot be reached.
    """
    if not path.startswith(PREFIX):
        return Path(path)
    owner, _, rest = path.removeprefix(PREFIX).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file):
        raise JourneyError(f"{path}: write hub:OWNER/NAME/FILE, as in hub:databricks/databricks-dolly-15k/…jsonl")
    return download(f"{owner}/{name}", file, "dataset")


def download(repository: str, file: str, kind: str) -> Path:
    """The local copy of a file of a Hub repository (`kind` is "dataset" or "model"), fetched if it is not there yet."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    with refusals(repository, kind, file):
        # Looked up first: the library would ask the Hub for a newer one, and without a network wait half a minute.
        cached = try_to_load_from_cache(repository, file, repo_type=kind)
        if isinstance(cached, str):
            return Path(cached)
        with _quiet():
            return Path(hf_hub_download(repository, file, repo_type=kind))


@contextmanager
def refusals(repository: str, kind: str, file: str = "", revision: str = "") -> Iterator[None]:
    """What the Hub's library says of a repository, or of a file in it, that it does not give becomes one line."""
    from huggingface_hub import errors

    where = f"{kind} {repository}"
    what = f"{file} of the {where}" if file else f"the {where}"
    try:
        yield
    except errors.HFValidationError:
        raise JourneyError(f'"{repository}" is not a name on the Hub: write OWNER/NAME') from None
    except errors.GatedRepoError:
        raise JourneyError(f"{where} asks for your consent: give it on the Hub's page, then `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise JourneyError(f"the Hub has no public {where}: check the spelling, or `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise JourneyError(f'the {where} has no revision "{revision}": check it on the Hub\'s page') from None
    except errors.LocalEntryNotFoundError:  # is an EntryNotFoundError too, so it comes first
        raise JourneyError(f"{what} is not on this machine and the Hub cannot be reached: {_HELP}") from None
    except errors.EntryNotFoundError:
        raise JourneyError(f"the {where} has no file {file}: check the spelling on the Hub's page") from None
    except errors.HfHubHTTPError as error:
        status = f" (status {error.response.status_code})" if error.response is not None else ""
        raise JourneyError(f"the Hub did not give {what}{status}: try later, or {_HELP}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings, one a try: what went wrong is said once, by our error. Its progress bar stays."""
    from huggingface_hub.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


_HELP = "download the file elsewhere and give its path"
