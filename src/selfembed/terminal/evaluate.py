"""`selfembed evaluate`: the scores of one embedder."""

from __future__ import annotations

import argparse
import json

from selfembed.ground.progress import Bars
from selfembed.terminal.task_options import add_task_options, task_choice


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "evaluate",
        help="score an embedder with mteb, or on your own data",
        description="Score an embedder with mteb's own tasks, from the hub or a local folder, or on your own data.",
    )
    verb.add_argument("embedder", metavar="DIR", help="embedder: a folder, or a hub id of sentence-transformers")
    verb.add_argument("--name", help="what to call it in the results (default: the folder's name)")
    add_task_options(verb)
    verb.add_argument("--json", action="store_true", help="print JSON, with all that the scores depend on")
    verb.set_defaults(run=run, verb=verb)


def run(options: argparse.Namespace) -> int:
    """Prints scores."""
    from selfembed.evaluation.run import evaluate

    with Bars() as progress:
        scores = evaluate(options.embedder, name=options.name, progress=progress, **task_choice(options))
    if options.json:
        print(json.dumps(scores.to_dict(), indent=2, ensure_ascii=False))
        return 0
    settings = scores.settings
    print(
        f"{scores.embedder}: pooling {settings['pooling']}, {settings['attention']}, at most {settings['max_length']} "
        f"tokens, {settings['dtype']} on {settings['device']}, batch {settings['batch_size']}"
    )
    print("\n".join(scores.lines()))
    return 0
