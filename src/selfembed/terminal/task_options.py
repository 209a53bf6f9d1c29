"""The options that say on what embedders are scored."""

from __future__ import annotations

import argparse
from typing import Any


def add_task_options(verb: argparse.ArgumentParser) -> None:
    """Adds the options that say on what embedders are scored."""
    group = verb.add_argument_group("mteb's tasks")
    group.add_argument("--benchmark", metavar="NAME", help='one of mteb\'s, e.g. "MTEB(eng, v2)"')
    group.add_argument(
        "--tasks", nargs="+", action="extend", metavar="TASK", help="tasks by name; with a benchmark, some of its own"
    )
    group.add_argument("--data", metavar="FOLDER", help="local data, a sub-folder a task (default: from the hub)")

    group = verb.add_argument_group("your own data (jsonl, json, csv, tsv, parquet)")
    for name, meaning in (
        ("sts", "text1, text2, score"),
        ("pairs", "text1, text2, label (1: they mean the same)"),
        ("classification", "text, label"),
        ("clustering", "text, label"),
        ("reranking", "query, positive, negative"),
    ):
        group.add_argument(f"--{name}", action="append", default=[], metavar="FILE", help=f"columns {meaning}")
    group.add_argument(
        "--retrieval",
        action="append",
        default=[],
        metavar="PATH",
        help="file with the columns query, document, relevance; or folder with corpus, queries and qrels, as in BEIR",
    )
    group.add_argument(
        "--self-retrieval",
        nargs="+",
        action="extend",
        metavar="C",
        help="no labels: in a corpus, a text's title (column title, beside text) or first sentence finds the rest",
    )

    group = verb.add_argument_group("how to run")
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts per forward pass (default 32)")
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    group.add_argument("--no-cache", action="store_true", help="encode everything anew, keep no vectors")
    verb.set_defaults(less_memory="a smaller --batch-size")


def task_choice(options: argparse.Namespace) -> dict[str, Any]:
    """Gathers what a command line says of tasks, as `evaluate` takes it."""
    from selfembed.evaluation import own_data
    from selfembed.evaluation.self_retrieval import self_retrieval_task, titled_texts

    own = [
        make(path)
        for make, paths in (
            (own_data.sts_task, options.sts),
            (own_data.pair_task, options.pairs),
            (own_data.classification_task, options.classification),
            (own_data.clustering_task, options.clustering),
            (own_data.reranking_task, options.reranking),
            (own_data.retrieval_task, options.retrieval),
        )
        for path in paths
    ]
    if options.self_retrieval:
        own.append(self_retrieval_task(titled_texts(options.self_retrieval)))
    return {
        "benchmark": options.benchmark,
        "tasks": options.tasks,
        "data": options.data,
        "own": own,
        "batch_size": options.batch_size,
        "device": options.device,
        "cache": not options.no_cache,
    }
