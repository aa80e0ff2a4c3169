"""`python -m journey` is `journey`."""

from journey.cli import entry

if __name__ == "__main__":
    entry()
