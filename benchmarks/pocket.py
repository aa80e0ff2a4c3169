"""The pocket life, whole, in a fresh workspace: wall time, peak memory, and every effect the report speaks of.

    python benchmarks/pocket.py [--set KEY=VALUE ...]

The last line is JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from journey.life.workspace import Life
from journey.lineage import surroundings


def main() -> None:
    """Run the recipe as a user does and print what came out."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "pocket"
        command = [sys.executable, "-m", "journey", "run", "pocket", "--workspace", str(workspace), *sys.argv[1:]]
        start = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - start
        again = time.monotonic()
        subprocess.run(command, check=True)
        nothing = time.monotonic() - again
        life = Life.read(workspace)
        found = [effect for entry in life.entries for effect in life.effects[entry.name]]
        size = (workspace / "report.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    for entry in life.done:
        line = entry.node.lineage
        print(f"{entry.name:<10} {line['seconds']:7.1f} s  {line['peak_memory'] / 1e9:.2f} GB")
    for effect in found:
        e = effect.size
        print(
            f"{effect.node:<9} {effect.key:<36} {e.value:8.3f} [{e.low:.3f}, {e.high:.3f}] "
            f"{e.unit}, {effect.verdict} ({effect.compare})"
        )
    print(
        f"in all {seconds:.0f} s, {peak / 1e9:.2f} GB at most in one process; "
        f"run again: {nothing:.1f} s; report {size:,} bytes"
    )
    numbers = [
        {"stage": e.node, "name": e.key, "verdict": e.verdict}
        | {"value": e.size.value, "low": e.size.low, "high": e.size.high}
        for e in found
    ]
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_memory": peak,
                "again_seconds": nothing,
                "report_bytes": size,
                "effects": numbers,
                "machine": surroundings()["machine"],
            }
        )
    )


if __name__ == "__main__":
    main()
