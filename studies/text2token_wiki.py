"""Text2Token on English Wikipedia with the embedded backbone: raw, after stage I, after stage II, over several seeds.

    python studies/text2token_wiki.py --preset cpu

Writes ``text2token_wiki_<preset>.json`` and ``.md``, anew after every embedder, and goes on where it was interrupted.
Embedders are measured in memory, the adapter on, right after each stage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from evaluation import METRICS, Sizes, Tasks, evaluate, five_tasks, load_tasks
from findings import spread
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar
from variants import PRESETS as SHARED
from variants import Preset, agrees, default_settings, encoder, shortened, tell

from selfembed.backbone import EMBEDDED, best_dtype
from selfembed.corpus import Corpus
from selfembed.embedder import build_embedder
from selfembed.errors import InputError
from selfembed.plan import Plan, make_plan
from selfembed.provenance import environment, write_json
from selfembed.training import run_plan

STAGES = {"data_driven": "stage I", "model_derived": "stages I + II"}


# Those of recipe text2token-small, chosen on Python docs; not tuned on these tasks.
ON_A_CPU = {
    "data_driven.learning_rate": 2e-4,
    "model_derived.learning_rate": 1e-4,
    "variants": "merge",
    "common": "online",
    "temperature": 1e-2,
    "floor": 1e-3,
}

PRESETS = {
    "paper": SHARED["paper"],
    "cpu": Preset(
        settings={
            "data_driven.steps": 40,
            "model_derived.steps": 20,
            "batch_size": 32,
            "max_length": 96,
            **ON_A_CPU,
            "embed_length": 128,
        },
        passages=20_000,
        sizes=Sizes(sts=500, sick=500, articles=500, newsgroups=500, banking_train=600, banking_test=500),
    ),
    "smoke": Preset(
        settings={
            "data_driven.steps": 2,
            "model_derived.steps": 1,
            "batch_size": 4,
            "max_length": 48,
            **ON_A_CPU,
            "embed_length": 64,
        },
        passages=200,
        sizes=Sizes(sts=20, sick=20, articles=20, newsgroups=40, banking_train=40, banking_test=20),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with wiki/ and mteb/")
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--work", type=Path, default=Path("out/studies"), help="folder of the embedders in between")
    parser.add_argument("--keep", action="store_true", help="keep the embedders")
    parser.add_argument("--learning-rate", type=float, help="other than the preset's")
    parser.add_argument("--model", default=EMBEDDED, help="another backbone")
    parser.add_argument("--device", help="cpu or cuda; a GPU is taken where there is one")
    parser.add_argument(
        "--encode-dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="of the weights when encoding"
    )
    arguments = parser.parse_args()
    disable_progress_bar()
    try:
        Study(arguments).run()
    except InputError as error:
        sys.exit(f"error: {error}")


class Study:
    """The study of one command line."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        preset = PRESETS[arguments.preset]
        settings = dict(preset.settings)
        if arguments.learning_rate is not None:
            settings["learning_rate"] = arguments.learning_rate
        self.plan = make_plan(
            arguments.model,
            Corpus(arguments.data / "wiki" / "passages.parquet", limit=preset.passages),
            "text2token",
            settings=settings,
            device=arguments.device,
        )
        wanted = arguments.encode_dtype
        self.dtype = best_dtype(self.plan.device) if wanted == "auto" else getattr(torch, wanted)
        self.tasks: Tasks = load_tasks(arguments.data, preset.sizes)
        self.file = arguments.out / f"text2token_wiki_{arguments.preset}.json"
        self.results = self.read_results(preset)

    def read_results(self, preset: Preset) -> dict[str, Any]:
        """What an earlier run of the same settings finished, or a fresh start.

        Raises:
            InputError: the file holds results of other settings.
        """
        plan = self.plan.to_dict()
        settings = {
            "preset": self.arguments.preset,
            **{key: plan[key] for key in plan if key not in ("seed", "corpus", "corpus_report")},
            "corpus_texts": plan["corpus_report"]["texts"],
            "evaluation": {"sizes": dataclasses.asdict(preset.sizes), "items": self.tasks.describe()},
            "encode_dtype": str(self.dtype).removeprefix("torch."),
        }
        settings = json.loads(json.dumps(settings))
        if self.file.exists():
            results = json.loads(self.file.read_text())
            recorded, default = results["settings"], default_settings()
            changed = [key for key in settings if not agrees(recorded.get(key), settings[key], default.get(key))]
            if changed:
                raise InputError(
                    f"{self.file} holds results with another {', '.join(changed)}; move it away, or give another --out"
                )
            return results
        return {"settings": settings, "metrics": METRICS, "environment": environment(), "raw": None, "seeds": {}}

    def run(self) -> None:
        """Fills in what is missing, and writes after each embedder."""
        self.arguments.out.mkdir(parents=True, exist_ok=True)
        if self.results["raw"] is None:
            config, length = self.plan.recipe.embedder, self.plan.recipe.embed_length
            raw = build_embedder(
                self.plan.backbone, config, max_length=length, dtype=self.dtype, device=self.plan.device
            )
            self.results["raw"] = self.measure(raw)
            self.write("raw")
        for seed in self.arguments.seeds:
            cells = self.results["seeds"].setdefault(str(seed), {})
            if set(cells) != set(STAGES.values()):
                self.train_and_measure(seed, cells)
        self.write("all")

    def train_and_measure(self, seed: int, cells: dict[str, Any]) -> None:
        """One seed: fills in the cells that an interrupted study left empty."""
        plan: Plan = dataclasses.replace(self.plan, seed=seed)
        folder = self.arguments.work / f"{self.arguments.preset}-seed{seed}-{plan.key[:12]}"
        if folder.exists():  # trained, and interrupted before the last cell was written
            shutil.rmtree(folder)

        def after_stage(record: dict[str, Any], embedder: SentenceTransformer) -> None:
            name = STAGES[record["name"]]
            if name not in cells:
                cells[name] = {**self.measure(embedder), "stage": shortened(record)}
                self.write(f"seed {seed}, {name}")

        run_plan(plan, folder, progress=tell, after_stage=after_stage)
        if not self.arguments.keep:
            shutil.rmtree(folder)

    def measure(self, embedder: SentenceTransformer) -> dict[str, Any]:
        """Scores in percent, wall seconds per task."""
        scores, seconds = evaluate(encoder(embedder), five_tasks(self.tasks))
        return {"scores": scores, "evaluation_seconds": seconds}

    def write(self, done: str) -> None:
        """Both files, with mean and standard deviation over the seeds so far."""
        self.results["summary"] = summary(self.results)
        write_json(self.file, self.results)
        self.file.with_suffix(".md").write_text(table(self.results, PRESETS[self.arguments.preset]))
        print(f"{done}: {self.file}", flush=True)


def summary(results: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean, standard deviation (of a sample; None for one seed) and number of seeds: by embedder, by task."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in STAGES.values():
        cells = [cells[name]["scores"] for cells in results["seeds"].values() if name in cells]
        if cells:
            found[name] = {task: spread([cell[task] for cell in cells]) for task in METRICS}
    return found


def table(results: dict[str, Any], preset: Preset) -> str:
    """The results as Markdown."""
    settings, items = results["settings"], results["settings"]["evaluation"]["items"]

    def row(name: str, values: list[str]) -> str:
        return f"| {name} | {' | '.join(values)} |"

    def shown(value: dict[str, Any]) -> str:
        return f"{value['mean']:.1f}" + (f" ± {value['sd']:.1f}" if value["sd"] is not None else "")

    lines = [
        f"# Text2Token on Wikipedia, preset `{settings['preset']}`",
        "",
        row("", [f"{task}, {metric}" for task, metric in METRICS.items()]),
        "|" + "---|" * (len(METRICS) + 1),
    ]
    if results["raw"]:
        lines.append(row("raw backbone", [f"{results['raw']['scores'][task]:.1f}" for task in METRICS]))
    for name, tasks in results["summary"].items():
        seeds = tasks["STSBenchmark"]["n"]
        lines.append(row(f"after {name} ({seeds} seed{'s' if seeds > 1 else ''})", [shown(v) for v in tasks.values()]))
    lines += [row("items", [items[task] for task in METRICS]), ""]
    lines += ["In percent; mean ± standard deviation over training seeds.", ""]
    if preset.sizes != Sizes():
        lines += [
            "**The tasks are fixed seeded subsamples** (the row *items*), so the numbers do not compare with "
            "published ones; retrieval searches one passage an article only.",
            "",
        ]
    for name, stage in settings["recipe"]["stages"].items():
        lines.append(
            f"- `{name}`: {stage['steps']} steps, batch {stage['batch_size']}, length {stage['max_length']}, "
            f"learning rate {stage['learning_rate']:g}"
        )
    where = results["environment"]
    cells = [cell for cells in results["seeds"].values() for cell in cells.values()]
    training = sum(cell["stage"]["preparation_seconds"] + cell["stage"]["training_seconds"] for cell in cells)
    measuring = sum(
        sum(cell["evaluation_seconds"].values()) for cell in [*cells, *([results["raw"]] if results["raw"] else [])]
    )
    first = "the first " if preset.passages else ""
    lines += [
        f"- model `{settings['model']}`, {first}{settings['corpus_texts']:,} Wikipedia passages, tagger "
        f"`{settings['tagger']}`; trained in {settings['dtype']}, encoded in {settings['encode_dtype']} at length "
        f"{settings['recipe']['embed_length']}",
        f"- {where['accelerator'] or where['processor']}, {where['cores']} cores; training "
        f"{math.ceil(training / 60)} min, evaluation {math.ceil(measuring / 60)} min in all",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
