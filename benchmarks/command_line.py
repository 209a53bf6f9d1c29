"""Median wall seconds of ``selfembed --help`` over ten runs; exit status 1 when over the limit."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS, LIMIT = 10, 0.5


def main() -> None:
    script = Path(sys.executable).with_name("selfembed")
    command = [str(script)] if script.exists() else [sys.executable, "-m", "selfembed"]
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run([*command, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds[1:])  # the first run fills the disk cache
    line = {"command": "selfembed --help", "median_seconds": round(median, 3), "runs": RUNS, "limit": LIMIT}
    print(json.dumps(line))
    sys.exit(int(median > LIMIT))


if __name__ == "__main__":
    main()
