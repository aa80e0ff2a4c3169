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

from journey.lineage import surroundings
from journey.report import effects
from journey.report.life import Life


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
        found = effects.effects(
            [s.measurement for s in life.measured], {s.lineage["id"]: s.lineage for s in life.stages}
        )
        size = (workspace / "report.html").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    for stage in life.stages:
        print(f"{stage.name:<10} {stage.lineage['seconds']:7.1f} s  {stage.lineage['peak_memory'] / 1e9:.2f} GB")
    for effect in found:
        print(
            f"{effect.stage:<8} {effect.name:<44} {effect.value:8.3f} [{effect.low:.3f}, {effect.high:.3f}] "
            f"{effect.unit}, {effect.verdict} ({effect.compare})"
        )
    print(
        f"in all {seconds:.0f} s, {peak / 1e9:.2f} GB at most in one process; "
        f"run again: {nothing:.1f} s; report {size:,} bytes"
    )
    numbers = [
        {"stage": e.stage, "name": e.name, "value": e.value, "low": e.low, "high": e.high, "verdict": e.verdict}
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
