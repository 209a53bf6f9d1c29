"""`selfembed compare`: embedders side by side."""

from __future__ import annotations

import argparse
import json

from selfembed.ground.progress import Bars
from selfembed.terminal.task_options import add_task_options, task_choice


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "compare",
        help="embedders side by side, with bootstrap intervals",
        description="Score embedders on the same tasks, side by side. The first is what the others are held against; "
        "runs that differ in their seed alone are one column.",
    )
    verb.add_argument(
        "embedders", metavar="A", nargs="+", help="folders, hub ids, or what evaluate --json printed, as *.json"
    )
    add_task_options(verb)
    verb.add_argument("--resamples", type=int, default=1000, metavar="N", help="of the bootstrap (default 1000)")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print Markdown")
    form.add_argument("--html", action="store_true", help="print one self-contained HTML page")
    verb.set_defaults(run=run, verb=verb)


def run(options: argparse.Namespace) -> int:
    """Prints the comparison."""
    from selfembed.evaluation.compare import compare

    with Bars() as progress:
        found = compare(options.embedders, resamples=options.resamples, progress=progress, **task_choice(options))
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    elif options.markdown:
        print(found.markdown())
    elif options.html:
        print(found.html())
    else:
        print("\n".join(found.lines()))
    return 0
