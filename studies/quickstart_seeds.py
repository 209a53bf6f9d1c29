"""The quickstart over several seeds, as a table.

    python studies/quickstart_seeds.py

Runs examples/quickstart.py, each seed in a process of its own, where ``quickstart_seed<n>.json`` is not there yet, and
writes ``quickstart.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).resolve().parent.parent / "examples" / "quickstart.py"
METRICS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in arguments.seeds:
        file = arguments.out / f"quickstart_seed{seed}.json"
        if not file.exists():
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, str(QUICKSTART), "--seed", str(seed), "--json", str(file)]
                subprocess.run([*command, "--out", f"{folder}/embedder"], check=True)
        runs.append(json.loads(file.read_text()))
    if any(run["recipe"] != runs[0]["recipe"] for run in runs):
        sys.exit(f"error: the runs in {arguments.out} are of different recipes; remove the old ones")
    text = table(runs)
    (arguments.out / "quickstart.md").write_text(text)
    print(text)


def table(runs: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["# The quickstart", ""]
    lines += ["| row | " + " | ".join(METRICS.values()) + " |", "|---" * (len(METRICS) + 1) + "|"]
    for row in runs[0]["rows"]:
        cells = []
        for metric in METRICS:
            values = [100 * run["rows"][row][metric] for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines += [
        "",
        "| seed | minutes | peak memory |",
        "|---|---|---|",
        *(f"| {run['seed']} | {run['seconds'] / 60:.1f} | {run['peak_memory_gib']:.1f} GiB |" for run in runs),
    ]
    recipe = runs[0]["recipe"]
    where = runs[0]["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    lines += [
        "",
        f"Retrieval of a docstring's body from its summary line among {runs[0]['held_out']} held-out docstrings, in "
        "percent. The held-out docstrings are the same for every seed; the seed decides texts, order, adapter and "
        "dropout.",
        "",
        f"- recipe {recipe['name']}: "
        + "; ".join(
            f"{name}, {stage['steps']} steps of {stage['batch_size']} texts of at most {stage['max_length']} tokens, "
            f"learning rate {stage['learning_rate']:g}"
            for name, stage in recipe["stages"].items()
        ),
        f"- {where['processor']}, {where['cores']} cores; {versions}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
