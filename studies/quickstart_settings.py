"""The quickstart's settings, tried on other held-out docstrings than the quickstart shows.

    python studies/quickstart_settings.py

Every way of stage II starts from the same stage I. Writes ``quickstart_settings_seed<n>.json`` after each, and goes on
where it was interrupted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import quickstart

from selfembed.data.corpus import Corpus
from selfembed.data.python_docs import docstring_pairs, python_docs, split_pairs
from selfembed.errors import InputError
from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.ground.quiet import quiet_libraries
from selfembed.recipes import Recipe, choose_stages, override
from selfembed.training.plan import make_plan
from selfembed.training.stage import run_stages, trainable_embedder

SPLIT = 1  # the quickstart shows split 0
COMMON = {"batch_size": 32, "micro_batch_size": 8, "max_length": 80, "variants": "merge", "common": "online"}
FIRST = {"data_driven.steps": 30, "data_driven.learning_rate": 2e-4}
# What is named here follows on the first stage; "data_driven" goes on with it for as many steps.
SECOND: dict[str, tuple[str, dict[str, Any]]] = {
    "div, tau 1e-2, lr 2e-4": ("model_derived", {"temperature": 1e-2, "learning_rate": 2e-4}),
    "div, tau 1e-2, lr 5e-5": ("model_derived", {"temperature": 1e-2, "learning_rate": 5e-5}),
    "div, tau 1e-2, floor 1e-4, lr 1e-4": (
        "model_derived",
        {"temperature": 1e-2, "floor": 1e-4, "learning_rate": 1e-4},
    ),
    "div, tau 1e-2, floor 1e-3, lr 1e-4": (
        "model_derived",
        {"temperature": 1e-2, "floor": 1e-3, "learning_rate": 1e-4},
    ),
    "div, tau 1e-2, floor 1e-3, lr 2e-4": (
        "model_derived",
        {"temperature": 1e-2, "floor": 1e-3, "learning_rate": 2e-4},
    ),
    "div, tau 1e-1, floor 1e-3, lr 1e-4": (
        "model_derived",
        {"temperature": 1e-1, "floor": 1e-3, "learning_rate": 1e-4},
    ),
    "log, tau 1e-2, lr 1e-4": ("model_derived", {"filter": "log", "temperature": 1e-2, "learning_rate": 1e-4}),
    "log, tau 1e-1, lr 1e-4": ("model_derived", {"filter": "log", "temperature": 1e-1, "learning_rate": 1e-4}),
    "sub, tau 1, floor 1e-4, lr 1e-4": (
        "model_derived",
        {"filter": "sub", "temperature": 1.0, "floor": 1e-4, "learning_rate": 1e-4},
    ),
    "data-driven, lr 1e-4": ("data_driven", {"learning_rate": 1e-4}),
}
SECOND_STEPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="folder of the results")
    parser.add_argument("--work", type=Path, default=Path("out/quickstart_settings"), help="folder of adapters")
    parser.add_argument("--only", nargs="+", help="of the ways of stage II")
    arguments = parser.parse_args()
    quiet_libraries()
    try:
        Pilots(arguments).run(arguments.only or list(SECOND))
    except InputError as error:
        sys.exit(f"error: {error}")


class Pilots:
    """All ways of one seed."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        _, self.held = split_pairs(docstring_pairs(), quickstart.HELD_OUT, SPLIT)
        corpus = Corpus(python_docs(held_out=[pair.qualified_name for pair in self.held]))
        self.seed = arguments.seed
        self.plan = make_plan("embedded", corpus, "text2token", settings={**COMMON, **FIRST}, seed=self.seed)
        self.work = arguments.work / f"seed{self.seed}"
        self.file = arguments.out / f"quickstart_settings_seed{self.seed}.json"
        arguments.out.mkdir(parents=True, exist_ok=True)
        self.results = {"split": SPLIT, "held_out": len(self.held), "settings": {**COMMON, **FIRST}, "scores": {}}
        self.results |= {"second_steps": SECOND_STEPS, "environment": environment()}
        if self.file.exists():
            self.results = json.loads(self.file.read_text())

    def run(self, names: list[str]) -> None:
        """Raw, stage I, and each way of stage II."""
        self.measure("raw", trainable_embedder(self.plan, self.plan.backbone).eval())  # its adapter is fresh
        first = choose_stages(self.plan.recipe, ["data_driven"])
        self.train(first, ["stage I"])
        for name in names:
            if name in self.results["scores"]:
                continue
            kind, options = SECOND[name]
            settings = {f"{kind}.{key}": value for key, value in {"steps": SECOND_STEPS, **options}.items()}
            second = override(self.plan.recipe, settings).stages[kind]
            self.train(dataclasses.replace(first, stages={**first.stages, "second": second}), ["stage I", name])

    def train(self, recipe: Recipe, names: list[str]) -> None:
        """Runs the stages of a recipe, of which the first may have been run before, and scores each by its name."""
        folders = [self.work / ("first" if name == "stage I" else file_name(name)) for name in names]
        plan = dataclasses.replace(self.plan, recipe=recipe)
        for name, trained in zip(names, run_stages(plan, lambda n, _: folders[n - 1], progress=tell), strict=True):
            self.measure(name, trained.embedder)

    def measure(self, name: str, embedder) -> None:
        """Scores, written at once."""
        if name not in self.results["scores"]:
            self.results["scores"][name] = quickstart.retrieval(embedder, self.held, tell, name)
            write_json(self.file, self.results)
            print(name, self.results["scores"][name], flush=True)


def file_name(name: str) -> str:
    """Of a way of stage II."""
    return name.replace(" ", "_").replace(",", "")


def tell(task: str, done: int, total: int | None) -> None:
    """Progress, on standard error."""
    if done in (0, total):
        print(f"  {task} {done}/{total}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
