"""`selfembed targets`: token targets to look at before training."""

from __future__ import annotations

import argparse
import json

from selfembed.ground.progress import Bars
from selfembed.terminal.plan_options import add_plan_options, plan_of


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "targets", help="show token targets of a sample of texts", description="Show token targets before training."
    )
    add_plan_options(verb, recipe="text2token")  # ours has no token targets to show
    verb.add_argument("--texts", type=int, default=500, metavar="N", help="sample size for the figures (default 500)")
    verb.add_argument("--show", type=int, default=5, metavar="N", help="texts shown with their targets (default 5)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run, verb=verb, pairs=[], instruction=[], dev=None)


def run(options: argparse.Namespace) -> int:
    """Prints the targets of a sample."""
    from selfembed.explanation.target_preview import preview

    with Bars() as progress:
        plan = plan_of(options, progress)
        views = preview(plan, texts=options.texts, show=options.show, progress=progress)
    if options.json:
        print(json.dumps([view.to_dict() for view in views], indent=2, ensure_ascii=False))
        return 0
    for view in views:
        print(f"\n== {view.stage} ==")
        for line in view.lines():
            print(line)
    return 0
