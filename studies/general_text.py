"""General text: trained on Wikipedia passages, scored on ten development tasks of other kinds than search alone.

    python studies/general_text.py --rows minilm raw raw+calibrate selfembed --seeds 0

Texts are read up to 96 tokens. Preset cpu scores parts of the tasks (dev_tasks.sampled), preset full all of them. No
row but MiniLM has seen a label. Writes ``general_text_<preset>.json`` and ``.md`` after each row; what is in the file
is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import dev_tasks
import numpy as np
import torch
from datasets import disable_progress_bars
from rows import CALIBRATED, UNTRAINED, label, made, vectors

from selfembed import Corpus
from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.recipes import RECIPES

ORDER = list(dict.fromkeys(dev_tasks.CATEGORIES.values()))


def table(results: dict[str, Any]) -> str:
    """All results as Markdown, in points, mean over the seeds."""
    about = f"{results['texts']} texts of ten tasks, read up to 96 tokens; trained on Wikipedia."
    lines = [
        "# General text",
        "",
        about,
        "",
        f"| row | macro | {' | '.join(ORDER)} | seeds | minutes |",
        "|---" * (len(ORDER) + 4) + "|",
    ]
    for row, seeds in results["rows"].items():
        means = [dev_tasks.summary(one["scores"]) for one in seeds.values()]
        cells = [f"{100 * np.mean([mean[name] for mean in means]):.1f}" for name in ("macro", *ORDER)]
        minutes = [one["notes"]["minutes"] for one in seeds.values() if "minutes" in one["notes"]]
        took = f"{np.mean(minutes):.1f}" if minutes else ""
        lines.append(f"| {row} | {' | '.join(cells)} | {len(seeds)} | {took} |")
    lines += ["", f"| row | {' | '.join(dev_tasks.CATEGORIES)} |", "|---" * (len(dev_tasks.CATEGORIES) + 1) + "|"]
    for row, seeds in results["rows"].items():
        cells = [
            f"{100 * np.mean([one['scores'][name] for one in seeds.values()]):.1f}" for name in dev_tasks.CATEGORIES
        ]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[*UNTRAINED, CALIBRATED, "selfembed"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with mteb and wiki")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("out/general_text"), help="trained embedders")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", choices=("cpu", "full"), default="cpu")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="numbers of the recipes to replace")
    options = parser.parse_args()
    settings = dict(one.split("=", 1) for one in options.set)
    for name in options.rows:
        if name not in (known := (*UNTRAINED, CALIBRATED, *RECIPES)):
            raise SystemExit(f"row {name!r}: expected one of {', '.join(known)}")
    disable_progress_bars()
    rows = dev_tasks.read(options.data / "mteb")
    tasks = dev_tasks.Tasks(dev_tasks.sampled(rows) if options.preset == "cpu" else rows)
    texts = tasks.texts()
    place = {text: i for i, text in enumerate(texts)}
    corpus = Corpus(options.data / "wiki" / "passages.parquet")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"general_text_{options.preset}.json"
    results = json.loads(file.read_text()) if file.exists() else {"environment": environment(), "rows": {}}
    results["texts"] = len(texts)
    for row in options.rows:
        named = label(row, settings)
        seeds = results["rows"].setdefault(named, {})
        for seed in options.seeds if row not in UNTRAINED else options.seeds[:1]:
            if str(seed) in seeds:
                continue
            out = options.work / f"{named}-{seed}"
            embedder, notes = made(row, corpus, out, seed=seed, device=options.device, settings=settings)
            vectors_ND = vectors(embedder, texts)
            scores = {
                name: tasks.score(name, lambda some: vectors_ND[[place[text] for text in some]])  # noqa: B023
                for name in dev_tasks.CATEGORIES
            }
            seeds[str(seed)] = {"scores": {name: round(score, 4) for name, score in scores.items()}, "notes": notes}
            write_json(file, results)
            file.with_suffix(".md").write_text(table(results))
            means = {name: round(100 * mean, 1) for name, mean in dev_tasks.summary(scores).items()}
            print(named, seed, means, flush=True)


if __name__ == "__main__":
    main()
