"""Variants: ways of training that a study sets side by side; each is trained, measured and written down at once.

A study is a list of variants. Interrupted, it goes on where it was: recorded runs are not repeated, and training goes
on from its last checkpoint. The stages that two variants begin with alike are trained once, also in different studies.
Embedders are measured in memory, the adapter on, after the last stage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from evaluation import Encode, Sizes, Task, evaluate, five_tasks, load_tasks, sample
from findings import picture, spread, table, values
from sentence_transformers import SentenceTransformer
from transformers.utils.logging import disable_progress_bar

from selfembed.data.corpus import Corpus
from selfembed.encoding.encode import encode
from selfembed.encoding.token_budget import TokenBudget
from selfembed.errors import InputError
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.ground.files import write_json
from selfembed.ground.hashing import content_hash
from selfembed.model.backbone import EMBEDDED, LMHead
from selfembed.model.embedder import fitting_length
from selfembed.recipes import choose_stages, find_recipe, override
from selfembed.training.plan import Plan, make_plan
from selfembed.training.stage import run_stages, trainable_embedder

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How much of everything.

    Args:
        settings: of the recipe; what is not named stays as the recipe has it.
        passages: of the corpus, the file's first; None takes all.
        sizes: of the evaluation.
        seeds: of the training.
    """

    settings: Settings
    passages: int | None = None
    sizes: Sizes = Sizes()
    seeds: tuple[int, ...] = (0,)


# Rates and forms of recipe text2token-small without its floor, which the paper does not print.
_ON_A_CPU: Settings = {
    "data_driven.learning_rate": 2e-4,
    "model_derived.learning_rate": 1e-4,
    "variants": "merge",
    "common": "online",
}

PRESETS = {
    "paper": Preset(
        settings={
            "data_driven.steps": 500,
            "model_derived.steps": 200,
            "batch_size": 64,
            "max_length": 128,
            "learning_rate": 3e-5,
        },
        seeds=(0, 1, 2),
    ),
    "cpu": Preset(
        settings={
            "steps": 20,
            "batch_size": 32,
            "micro_batch_size": 8,
            "max_length": 80,
            "embed_length": 128,
            **_ON_A_CPU,
        },
        passages=20_000,
        sizes=Sizes(sts=300, sick=300, articles=300, newsgroups=300, banking_train=300, banking_test=300),
    ),
    "smoke": Preset(
        settings={"steps": 2, "batch_size": 4, "max_length": 48, "embed_length": 64, **_ON_A_CPU},
        passages=200,
        sizes=Sizes(sts=20, sick=20, articles=20, newsgroups=20, banking_train=20, banking_test=20),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a table.

    Args:
        name: in the table.
        recipe: whose stages these are.
        stages: of the recipe, in the order they are run; none: the raw backbone.
        settings: of the recipe; of text2token, on top of the preset's.
        corpus: by its name in the study.
        head: what to make of the backbone's decoder layer for the loss; None leaves it.
        raw: name of the variant that is this one before training.
    """

    name: str
    recipe: str = "text2token"
    stages: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)
    corpus: str = "wiki"
    head: Callable[[LMHead], LMHead] | None = None
    raw: str | None = None


def command_line(
    description: str, *more: tuple[str, dict[str, Any]], presets: dict[str, Preset] = PRESETS
) -> argparse.Namespace:
    """The options of every study, and those of one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the texts and mteb/")
    parser.add_argument("--preset", choices=presets, default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: the preset's")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/studies"),
        help="folder of adapters; clear it after a change to the code",
    )
    parser.add_argument("--model", default=EMBEDDED, help="another backbone")
    parser.add_argument("--device", help="cpu or cuda; a GPU is taken where there is one")
    for name, options in more:
        parser.add_argument(name, **options)
    return parser.parse_args()


class Study:
    """The variants of one table or figure, on one command line.

    Args:
        name: of the study, and of its files.
        title: of its table.
        finding: what the paper found, in a sentence.
        variants: in the order of the table.
        options: of :func:`command_line`.
        corpora: by name; default the Wikipedia passages of the data folder.
        tasks: default the five of evaluation.py; may be none where there are measures.
        measures: columns besides the tasks, name to unit.
        look: takes every embedder and its plan; what it returns goes into the run's record, with the numbers of
            ``measures`` under that name.
        presets: by name.

    Raises:
        InputError: something given cannot be used, or the file of results holds results of other settings.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str,
        finding: str,
        variants: Sequence[Variant],
        options: argparse.Namespace,
        corpora: dict[str, Corpus] | None = None,
        tasks: Sequence[Task] | None = None,
        measures: dict[str, str] | None = None,
        look: Callable[[SentenceTransformer, Plan], Settings] | None = None,
        presets: dict[str, Preset] = PRESETS,
    ) -> None:
        self.name, self.variants, self.options = name, variants, options
        self.preset = presets[options.preset]
        self.seeds = options.seeds or self.preset.seeds
        self.corpora = corpora or {"wiki": wiki(options.data, self.preset)}
        self.tasks = five_tasks(load_tasks(options.data, self.preset.sizes)) if tasks is None else tasks
        self.look = look
        first = next(iter(self.corpora.values()))
        self.plan = make_plan(options.model, first, "text2token", settings=self.preset.settings, device=options.device)
        self.file = options.out / f"{name}_{options.preset}.json"
        plan = self.plan.to_dict()
        settings = {
            "preset": options.preset,
            **{key: plan[key] for key in ("model", "model_fingerprint", "dtype", "device", "tagger")},
            "metrics": {task.name: task.metric for task in self.tasks},
            "items": {task.name: task.items for task in self.tasks},
            "subsamples": self.preset.sizes != Sizes(),
            **({"measures": measures} if measures else {}),
        }
        described = {variant.name: self.describe(variant) for variant in variants}
        self.results = open_results(self.file, settings, described)
        self.results |= {"title": title, "finding": finding}

    def plan_of(self, variant: Variant, seed: int) -> Plan:
        """What a variant trains, with one seed."""
        base = self.plan.recipe if variant.recipe == "text2token" else find_recipe(variant.recipe)
        recipe = override(base, variant.settings)
        if variant.stages:
            recipe = choose_stages(recipe, variant.stages)
        return dataclasses.replace(self.plan, corpus=self.corpora[variant.corpus], recipe=recipe, seed=seed)

    def describe(self, variant: Variant) -> Settings:
        """All that a variant depends on and that is its own."""
        plan = self.plan_of(variant, 0)
        recipe = plan.recipe.to_dict()
        if not variant.stages:
            return {"raw": True, "embedder": recipe["embedder"], "embed_length": recipe["embed_length"]}
        return {
            "order": list(variant.stages),
            "recipe": recipe,
            "corpus": variant.corpus,
            "corpus_fingerprint": plan.corpus.fingerprint,
            "corpus_texts": plan.corpus.report.texts,
            "head": variant.head.__name__ if variant.head else "exact",
            "before": variant.raw,
        }

    def run(self) -> None:
        """Fills in what is missing, and writes after each run."""
        self.options.out.mkdir(parents=True, exist_ok=True)
        for variant in self.variants:
            runs = self.results["variants"][variant.name]["runs"]
            for seed in self.seeds if variant.stages else self.seeds[:1]:
                if str(seed) in runs or (runs and not variant.stages):
                    continue
                runs[str(seed)] = self.train_and_measure(variant, seed)
                write_json(self.file, self.results)
                print(f"{variant.name}, seed {seed}: {brief(runs[str(seed)])}, {self.file}", flush=True)

    def train_and_measure(self, variant: Variant, seed: int) -> dict[str, Any]:
        """The record of one run."""
        started = time.monotonic()
        plan = self.plan_of(variant, seed)
        embedder, stages = train(plan, variant, self.options.work)
        trained = time.monotonic()
        scores, seconds = evaluate(encoder(embedder), self.tasks)
        evaluated = time.monotonic()
        seen = self.look(embedder, plan) if self.look else {}
        record = {
            "scores": scores,
            **({"mean": round(statistics.fmean(scores.values()), 3)} if scores else {}),
            **seen,
            "evaluation_seconds": seconds,
            **({"look_seconds": round(time.monotonic() - evaluated, 1)} if self.look else {}),
            "training_seconds": round(trained - started, 1),
            "wall_seconds": round(time.monotonic() - started, 1),
            "peak_memory_gib_of_the_process": round(peak_memory_gib(), 2),
            "stages": [shortened(stage) for stage in stages],
        }
        if plan.device.startswith("cuda"):
            record["peak_gpu_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return record

    def values(self, name: str, task: str | None = None) -> list[float]:
        """Of a variant, by seed: the score of a task, a measure, or the mean of all tasks."""
        return values(self.results, name, task)

    def conclude(self, sentence: str, *sections: str, draw: Callable[[Settings, Path], None] = picture) -> None:
        """Writes verdict, table (with further sections of Markdown) and picture."""
        self.results["verdict"] = sentence
        settings = self.results["settings"]
        columns = [*settings["metrics"], *settings.get("measures", {}), *([None] if settings["metrics"] else [])]
        self.results["summary"] = {
            name: {column or "mean": spread(self.values(name, column)) for column in columns}
            for name, variant in self.results["variants"].items()
            if variant["runs"]
        }
        write_json(self.file, self.results)
        text = "\n".join([table(self.results, self.name), *sections])
        self.file.with_suffix(".md").write_text(text)
        draw(self.results, self.file.with_suffix(".svg"))
        print(text)


def open_results(file: Path, settings: Settings, variants: dict[str, Settings]) -> dict[str, Any]:
    """What an earlier run of the same settings finished, with a place for every variant.

    Raises:
        InputError: the file holds results of other settings.
    """
    settings, variants = json.loads(json.dumps([settings, variants]))
    results: dict[str, Any] = {"settings": settings, "environment": environment(), "variants": {}}
    if file.exists():
        results = json.loads(file.read_text())
        recorded = results["variants"]
        changed = [key for key in settings if results["settings"].get(key) != settings[key]]
        changed += [
            name
            for name in variants
            if name in recorded and not agrees(recorded[name]["settings"], variants[name], default_settings())
        ]
        if changed:
            raise InputError(
                f"{file} holds results with another {', '.join(changed)}; move it away, or give another --out"
            )
    for name, described in variants.items():
        results["variants"].setdefault(name, {"settings": described, "runs": {}})
    return results


def agrees(recorded: Any, now: Any, default: Any) -> bool:
    """Whether recorded settings are those of now; what they do not name, since it came later, is at its default."""
    if not (isinstance(recorded, dict) and isinstance(now, dict) and isinstance(default, dict)):
        return recorded == now
    missing = object()
    return recorded.keys() <= now.keys() and all(
        agrees(recorded[key], now[key], default.get(key, missing))
        if key in recorded
        else now[key] == default.get(key, missing)
        for key in now
    )


def default_settings() -> Settings:
    """What a recorded recipe does not name is as here."""
    recipe = json.loads(json.dumps(find_recipe("text2token").to_dict()))
    return {"recipe": recipe, "embedder": recipe["embedder"]}


def train(plan: Plan, variant: Variant, work: Path) -> tuple[SentenceTransformer, list[dict[str, Any]]]:
    """Runs the stages of a variant, and goes on where an earlier run was interrupted.

    Args:
        plan: of the variant and a seed.
        variant: whose stages are run.
        work: folder that keeps the adapter after every stage. Its names tell settings and data, not the code.

    Returns:
        the embedder, its adapter on, and the record of every stage.
    """
    if not variant.stages:
        raw = trainable_embedder(plan, plan.backbone)  # a fresh adapter changes nothing before it is trained
        raw.max_seq_length = fitting_length(plan.backbone, plan.recipe.embedder, plan.recipe.embed_length)
        return raw.eval(), []

    def folder_of(number: int, name: str) -> Path:
        return work / stages_key(plan, variant, number)

    records = []
    for trained in run_stages(plan, folder_of, make_head=variant.head, progress=tell):
        for checkpoint in folder_of(len(records) + 1, "").glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
        records.append(trained.record)
    return trained.embedder, records


def stages_key(plan: Plan, variant: Variant, count: int) -> str:
    """Names all that the first so many stages of a variant depend on."""
    stages = variant.stages[:count]
    plan = dataclasses.replace(plan, recipe=choose_stages(plan.recipe, stages))
    key = content_hash(plan.key, list(stages), variant.head.__name__ if variant.head else None)
    return f"{'-'.join(stages)}-{key[:12]}"


def wiki(data: Path, preset: Preset) -> Corpus:
    """The Wikipedia passages that most studies train on."""
    return Corpus(data / "wiki" / "passages.parquet", limit=preset.passages)


def held_out(data: Path, count: int) -> list[str]:
    """A seeded sample of the Wikipedia passages of other articles than any that is trained on."""
    texts = pq.read_table(data / "wiki" / "passages_dev.parquet", columns=["text"])["text"].to_pylist()
    return [texts[row] for row in sample(len(texts), count)]


def encoder(embedder: SentenceTransformer) -> Encode:
    """Texts to vectors, as the tasks want it; in batches of 64, as the recorded results were."""
    return partial(encode, embedder, budget=TokenBudget(batch_size=64))


def shortened(stage: dict[str, Any]) -> dict[str, Any]:
    """A stage's record with the two ends of its loss curve (means of up to ten steps) instead of all of it."""
    losses = [entry["loss"] for entry in stage["loss_curve"]]
    ends = {"loss_first_steps": statistics.fmean(losses[:10]), "loss_last_steps": statistics.fmean(losses[-10:])}
    kept = {key: value for key, value in stage.items() if key != "loss_curve"}
    return {**kept, **{key: round(value, 4) for key, value in ends.items()}}


def brief(run: dict[str, Any]) -> str:
    """A run's mean score, or its measures."""
    if "mean" in run:
        return f"mean {run['mean']:.1f}"
    return ", ".join(f"{name} {value:.3g}" for name, value in run["measures"].items())


def tell(task: str, done: int, total: int | None) -> None:
    """Progress, on standard error."""
    if total is None or done in (0, total) or done % 10 == 0:
        print(f"  {task} {done}/{total}", file=sys.stderr, flush=True)


def run_quietly(study: Callable[[], None]) -> None:
    """Runs a study's ``main`` without the libraries' progress bars; bad input ends in one line."""
    disable_progress_bar()
    try:
        study()
    except InputError as error:
        sys.exit(f"error: {error}")
