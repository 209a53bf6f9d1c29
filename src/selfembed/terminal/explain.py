"""`selfembed explain`: what embeddings say in words."""

from __future__ import annotations

import argparse
import json

from selfembed.errors import InputError
from selfembed.ground.progress import Bars


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "explain", help="show what an embedding says in words", description="Show aligned tokens, raw and trained."
    )
    verb.add_argument("folder", metavar="DIR", help="embedder that selfembed train has made; another one with --model")
    verb.add_argument(
        "texts",
        metavar="TEXT",
        nargs="*",
        help="texts; of two, also why they are similar or not (default: four examples)",
    )
    verb.add_argument(
        "--corpus", nargs="+", metavar="C", help="over texts of a corpus: hits and misses, and the shape of the space"
    )
    verb.add_argument("--sample", type=int, default=300, metavar="N", help="texts of the corpus (default 300)")
    verb.add_argument("--html", metavar="FILE", help="write one self-contained HTML report over the corpus instead")
    verb.add_argument(
        "--scores", nargs="+", default=[], metavar="F", help="what evaluate --json printed, for the report"
    )
    verb.add_argument("--model", help="the backbone it was made from, if it has moved or is not recorded")
    verb.add_argument("-k", type=int, default=10, help="aligned tokens of a text (default 10)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run, verb=verb, less_memory="a smaller --sample")


def run(options: argparse.Namespace) -> int:
    """Prints the explanation, or writes the report."""
    if options.html:
        return run_report(options)
    if options.scores:
        raise InputError("--scores: belongs to a report; give --html FILE too")
    from selfembed.explanation.explain import explain

    with Bars() as progress:
        found = explain(
            options.folder,
            options.texts,
            corpus=options.corpus,
            sample=options.sample,
            model=options.model,
            k=options.k,
            progress=progress,
        )
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(found.lines()))
    return 0


def run_report(options: argparse.Namespace) -> int:
    """Writes the report of a finished embedder as a file."""
    from selfembed.data.corpus import Corpus
    from selfembed.explanation.report.build import build_report
    from selfembed.explanation.report.write import write_report

    if not options.corpus or options.texts or options.json:
        raise InputError("--html: takes its texts from a corpus; give --corpus, and neither texts nor --json")
    with Bars() as progress:
        html = build_report(
            options.folder,
            Corpus(options.corpus),
            texts=options.sample,
            model=options.model,
            scores=options.scores,
            k=options.k,
            progress=progress,
        )
    write_report(options.html, html)
    print(f"report: {options.html}")
    return 0
