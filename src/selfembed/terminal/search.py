"""The verb search: asks an index, on the screen or in a page on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Annotated, Any

from selfembed.errors import InputError
from selfembed.ground.extras import require_extra
from selfembed.ground.options import Range, check_value


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "search",
        help="search an index",
        description="Find the passages of an index that answer a question best, by meaning and by words.",
    )
    verb.add_argument("index", metavar="INDEX", help="folder that selfembed index has made")
    verb.add_argument("query", metavar="QUESTION", nargs="?", help="a question or some words")
    verb.add_argument("-k", type=int, default=10, help="results (default 10)")
    verb.add_argument(
        "--mode",
        default="hybrid",
        metavar="MODE",
        help="dense: by meaning; lexical: by words (BM25); hybrid: both (default)",
    )
    verb.add_argument(
        "--fusion",
        default="scores",
        metavar="HOW",
        help="hybrid: by scores, a weighted sum of standard scores (default), or by ranks, reciprocal rank fusion",
    )
    verb.add_argument("--sparse", action="store_true", help="fuse the sparse view too, if the index has it")
    verb.add_argument(
        "--rescore",
        type=int,
        default=8,
        metavar="N",
        help="of int8 and binary vectors: find N times as many by their codes, then rank by the vectors (default 8)",
    )
    verb.add_argument("--why", action="store_true", help="show the words that question and passage share")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.add_argument("--serve", action="store_true", help="a page to search in, on this machine only")
    verb.add_argument("--port", type=int, default=8765, help="of the page (default 8765; 0: any free one)")
    verb.add_argument("--embedder", metavar="DIR", help="the embedder that made the index, if it has moved")
    verb.add_argument("--model", help="the backbone of the embedder, for --why and --sparse, if it has moved")
    verb.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    verb.set_defaults(run=run, verb=verb, less_memory="--device cpu")


def run(options: argparse.Namespace) -> int:
    """Searches and prints what was found, or serves the page."""
    from selfembed.search.encoder import load_encoder
    from selfembed.search.folder import Manifest
    from selfembed.search.index import Index

    require_extra("search")
    if options.serve and (options.query is not None or options.json or options.why):
        raise InputError("--serve: takes its questions in the page; leave out QUESTION, --json and --why")
    if not options.serve and (options.query is None or not options.query.strip()):
        raise InputError("query: empty; expected a question or some words, or --serve")
    check_value("rescore", options.rescore, Annotated[int, Range(least=0)])
    folder = options.embedder or Manifest.read(_path(options.index)).embedder
    explained = None
    if options.why:
        from selfembed.explanation.aligned_tokens import load_explained

        explained = load_explained(folder, model=options.model)
    encoder = None
    if explained is not None or options.embedder or options.device or options.model:
        loaded = explained.embedder if explained is not None else None
        encoder = load_encoder(folder, device=options.device, loaded=loaded, model=options.model)
    index = Index.open(options.index, encoder=encoder)
    search = {"fusion": options.fusion, "sparse": options.sparse, "rescore": options.rescore}
    if options.serve:
        return serve(index, options, search)
    found = index.search(options.query, options.k, mode=options.mode, **search)
    if explained is not None:
        explain(found, explained)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(found.lines()))
    return 0


def explain(found: Any, explained: Any) -> None:
    """Fills in, hit by hit, the words that question and passage share."""
    import dataclasses

    from selfembed.explanation.similarity import compare_embeddings

    query_1D = explained.embedder.encode_query([found.query], convert_to_tensor=True, show_progress_bar=False)
    texts = [hit.text for hit in found]
    if not texts:
        return
    passage_KD = explained.embedder.encode_document(texts, convert_to_tensor=True, show_progress_bar=False)
    for hit, passage_D in zip(found, passage_KD, strict=True):
        shared = compare_embeddings(
            query_1D[0], passage_D, explained.head, explained.tokenizer, texts=(found.query, hit.text)
        ).shared_words
        hit.why = [dataclasses.replace(word) for word in shared]


def serve(index: Any, options: argparse.Namespace, search: dict[str, Any]) -> int:
    """Serves the page until it is interrupted."""
    from selfembed.search.server import make_server

    if options.mode != "hybrid":
        raise InputError(f"--mode {options.mode}: is chosen in the page; leave it out with --serve")
    index.encoder  # noqa: B018 (whatever is wrong with the embedder is said now, not in the page)

    def answer(query: str, mode: str) -> Any:
        sparse = search["sparse"] and mode == "hybrid"
        return index.search(query, options.k, mode=mode, **{**search, "sparse": sparse})

    server = make_server(answer, f"Search {_path(options.index).name}", port=options.port)
    print(f"http://127.0.0.1:{server.server_address[1]}/ (until interrupted)", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0


def _path(name: str) -> Any:
    from pathlib import Path

    return Path(name)
