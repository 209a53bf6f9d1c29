"""`selfembed index`: an index of texts, made or brought up to date."""

from __future__ import annotations

import argparse
import sys

from selfembed.ground.extras import require_extra
from selfembed.ground.progress import Bars
from selfembed.terminal.plan_options import positive_or_none


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "index",
        help="make texts searchable",
        description="Make an index of texts, to be searched by meaning and by words. With the same --out it is "
        "brought up to date: only new and changed texts are encoded, and texts that are gone leave it.",
    )
    verb.add_argument("embedder", metavar="DIR", help="embedder: a folder of selfembed train or sentence-transformers")
    verb.add_argument("--out", metavar="INDEX", required=True, help="folder of the index")
    group = verb.add_argument_group("texts")
    group.add_argument(
        "--corpus",
        nargs="+",
        action="extend",
        required=True,
        metavar="C",
        help="files and folders (txt, md, rst, jsonl, json, csv, tsv, parquet; .gz and .zst too), a datasets id or "
        "folder, or 'python-docs'",
    )
    group.add_argument("--column", help="column of the texts (default: 'text', or the only one of strings)")
    group.add_argument("--split", default="train", help="split of a data set (default train)")
    group.add_argument("--encoding", default="utf-8", help="of text files (default utf-8)")
    group.add_argument(
        "--on-bad", choices=("raise", "skip"), default="raise", help="unreadable text: stop, or count it"
    )
    group.add_argument(
        "--passage-words",
        default=100,
        type=positive_or_none,
        metavar="N",
        help="cut longer texts (default 100; or none)",
    )
    group = verb.add_argument_group("the index")
    group.add_argument(
        "--language", default="english", help="of stop words and stemmer: english (default), german, ..., or none"
    )
    group.add_argument(
        "--vectors",
        default="float32",
        metavar="KIND",
        help="float32 (default), float16, or int8 or binary codes to search in, rescored by float16 vectors",
    )
    group.add_argument(
        "--sparse",
        nargs="?",
        type=int,
        const=64,
        default=0,
        metavar="K",
        help="keep the K likeliest words of each embedding too (default without a number 64), for search --sparse",
    )
    group.add_argument(
        "--approximate", metavar="faiss", help="search a graph of neighbours: for over a million passages"
    )
    group = verb.add_argument_group("how to run")
    group.add_argument("--model", help="the backbone of the embedder, for --sparse, if it has moved")
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="texts per forward pass (default 32)")
    group.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    verb.set_defaults(run=run, verb=verb, less_memory="a smaller --batch-size")


def run(options: argparse.Namespace) -> int:
    """Makes the index or brings it up to date, and prints what was done."""
    from selfembed.search.encoder import load_encoder
    from selfembed.search.folder import IndexSettings
    from selfembed.search.index import Index
    from selfembed.search.passages import Reading

    require_extra("search")
    settings = IndexSettings(
        reading=Reading(
            passage_words=options.passage_words,
            column=options.column,
            split=options.split,
            encoding=options.encoding,
            on_bad=options.on_bad,
        ),
        language=options.language,
        vectors=options.vectors,
        sparse=options.sparse,
        approximate=options.approximate,
    )
    encoder = load_encoder(options.embedder, batch_size=options.batch_size, device=options.device, model=options.model)
    with Bars() as progress:
        report = Index.build(encoder, options.corpus, options.out, settings=settings, progress=progress).report
    assert report is not None
    for reason, count in report.skipped.items():
        print(f"left out: {count:,} x {reason}", file=sys.stderr)
    if report.unchanged:
        print(f"index: {options.out} is up to date ({report.files:,} sources, {report.passages:,} passages)")
        return 0
    print(
        f"index: {options.out} ({report.files:,} sources, {report.files_read:,} of them new or changed; "
        f"{report.passages:,} passages, {report.encoded:,} texts encoded)"
    )
    print(f'next: selfembed search {options.out} "a question"')
    return 0
