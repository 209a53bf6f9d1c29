"""A search engine for the Python documentation, without labels, in minutes on two cores.

Trains the embedded backbone on the prose that every Python carries, and compares what came of it with BM25 and the
backbone as it was, in finding docstring bodies by their summary lines and in live searches. Docstrings that are
measured on are not trained on.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import bm25s
import numpy as np
import snowballstemmer
from datasets import Dataset
from sentence_transformers import SentenceTransformer

from selfembed import Corpus, load_backbone, train
from selfembed.calibration.affine_map import map_of
from selfembed.calibration.readings import MEAN_AND_LAST
from selfembed.data.python_docs import DocstringPair, docstring_pairs, help_pages, split_pairs, titled_python_docs
from selfembed.encoding.encode import encode
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.ground.files import write_json
from selfembed.ground.progress import Bars, Progress
from selfembed.ground.quiet import quiet_libraries
from selfembed.model.backbone import best_dtype
from selfembed.model.embedder import build_embedder
from selfembed.recipes import find_recipe
from selfembed.search.fusion import fuse_scores

HELD_OUT = 300
READ_TOKENS = 64  # of a text, in the search before and after
PAGE_WORDS = 20  # of a help page
RECIPE = "selfembed-small"
SEARCHES = [
    "how do I read a compressed archive",
    "parse command line options",
    "run a function later in another process",
    "send an email message",
    "what is a decorator",
]


def last_states(raw: SentenceTransformer, vectors_ND: np.ndarray) -> np.ndarray:
    """The last token's final state, as decoders are usually read, out of the vectors of mean+last pooling.

    Their second half is that state plus a share of the token's input embedding; every text ends in the same token.
    """
    share = raw[1].layer_weights[0].item()
    last = raw.tokenizer("any text")["input_ids"][-1]
    word_D = raw[0].model.get_input_embeddings().weight[last].detach().float().numpy()
    return (1 + share) * np.split(vectors_ND, 2, axis=1)[1] - share * word_D


def embed(embedder, texts: Sequence[str], progress: Progress, task: str) -> np.ndarray:
    """Embeds texts, float32, shape (texts, hidden)."""
    embedder.max_seq_length = READ_TOKENS
    return encode(embedder, texts, progress=progress, task=task)


def cosines(queries_QD: np.ndarray, documents_ND: np.ndarray) -> np.ndarray:
    """Returns the cosines of queries and documents, `scores_QN`."""
    queries_QD, documents_ND = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries_QD, documents_ND))
    return queries_QD @ documents_ND.T


def bm25(queries: Sequence[str], documents: Sequence[str], *, stemmed: bool) -> np.ndarray:
    """scores_QN of bm25s, its defaults with English stop words; stemmed is how the search of selfembed does it."""
    stem = snowballstemmer.stemmer("english").stemWords if stemmed else None

    def words(texts: Sequence[str]) -> list[list[str]]:
        return bm25s.tokenize(list(texts), stopwords="en", stemmer=stem, return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(words(documents), show_progress=False)
    nothing_N = np.zeros(len(documents), np.float32)
    return np.stack([index.get_scores(query) if query else nothing_N for query in words(queries)])


def scored(scores_QN: np.ndarray) -> dict[str, float]:
    """Scores how well each query finds the document of its own number; half of equal scores are ranked before it."""
    own_Q1 = np.diag(scores_QN)[:, None]
    rank_Q = 1 + (scores_QN > own_Q1).sum(1) + ((scores_QN == own_Q1).sum(1) - 1) / 2
    return {
        "ndcg@10": float(np.where(rank_Q <= 10, 1 / np.log2(rank_Q + 1), 0).mean()),
        "mrr@10": float(np.where(rank_Q <= 10, 1 / rank_Q, 0).mean()),
    }


def retrieval(embedder, held: list[DocstringPair], progress: Progress, when: str) -> dict[str, float]:
    """Scores finding bodies by their summaries, among the bodies of all held-out docstrings."""
    texts = [*(pair.summary for pair in held), *(pair.body for pair in held)]
    vectors_ND = embed(embedder, texts, progress, when)
    return scored(cosines(vectors_ND[: len(held)], vectors_ND[len(held) :]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="quickstart-embedder", type=Path, help="folder of the embedder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the scores here")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"--out {options.out}: exists already; expected a new folder; remove it or give another name")
    started = time.monotonic()
    quiet_libraries()
    progress = Bars()
    print("Reading the documentation that this Python carries, and unpacking the 135M backbone ...")
    backbone = load_backbone("embedded")
    _, held = split_pairs(docstring_pairs(), HELD_OUT, 0)
    rows = list(titled_python_docs(held_out=[pair.qualified_name for pair in held]))
    corpus = Corpus(Dataset.from_list(rows), name=f"python-docs without {len(held)} docstrings")
    print(f"{len(corpus):,} paragraphs to train on; {len(held)} docstrings of other modules held out to measure with")
    pages = help_pages(words=PAGE_WORDS)
    summaries, bodies = [pair.summary for pair in held], [pair.body for pair in held]
    texts = [*summaries, *bodies, *SEARCHES, *pages.values()]
    ends = np.cumsum([len(summaries), len(bodies), len(SEARCHES)])
    lexical = bm25(summaries, bodies, stemmed=True), bm25(SEARCHES, list(pages.values()), stemmed=True)
    table = {"BM25": scored(bm25(summaries, bodies, stemmed=False)), "BM25, stemmed": scored(lexical[0])}
    found = {"BM25": lexical[1]}

    with progress:
        raw = build_embedder(backbone, MEAN_AND_LAST, dtype=best_dtype("cpu"), device="cpu")
        before_ND = embed(raw, texts, progress, "raw backbone")
        raw_ND = last_states(raw, before_ND)
        del raw
        trained = train("embedded", corpus, RECIPE, out=options.out, seed=options.seed, progress=progress)
        after_ND = embed(trained.to("cpu").to(best_dtype("cpu")), texts, progress, "trained")
    chosen = map_of(trained)  # chosen for the raw backbone; the adapter was trained in front of it
    calibrated_ND = before_ND if chosen is None else chosen(before_ND)
    for name, vectors_ND in {"raw": raw_ND, "raw + calibrate": calibrated_ND, "ours": after_ND}.items():
        parts = np.split(vectors_ND, ends)
        table[name], found[name] = scored(cosines(parts[0], parts[1])), cosines(parts[2], parts[3])
    table["ours + BM25"] = scored(fuse_scores(cosines(*np.split(after_ND, ends)[:2]), lexical[0]))
    found["ours + BM25"] = fuse_scores(found["ours"], lexical[1])

    print("\nFinding a docstring's body from its summary line, among", len(held), "held-out docstrings")
    print(f"{'':18}{'nDCG@10':>9}{'MRR@10':>9}")
    for name, scores in table.items():
        print(f"{name:18}{scores['ndcg@10']:9.3f}{scores['mrr@10']:9.3f}")
    print("\nSearches among the first lines of Python's", len(pages), "help pages on modules and topics")
    names = list(pages)
    for i, query in enumerate(SEARCHES):
        print(f"\n{query}")
        for name in ("BM25", "raw", "raw + calibrate", "ours", "ours + BM25"):
            best = [names[j] for j in np.argsort(-found[name][i], kind="stable")[:4] if found[name][i, j] > 0]
            print(f"  {name:16}" + (", ".join(best) or "nothing"))
    seconds = time.monotonic() - started
    print(f"\nDone in {seconds / 60:.1f} minutes, peak memory {peak_memory_gib():.1f} GiB. Embedder: {options.out}")
    print(f'Next: .venv/bin/selfembed explain {options.out} "your text"')
    print(f"      .venv/bin/selfembed train --recipe {RECIPE} --corpus YOUR_FOLDER --out my-embedder --dry-run")
    print("      .venv/bin/selfembed index my-embedder --corpus YOUR_FOLDER --out my-index")
    if options.json:
        record = {
            "seed": options.seed,
            "before": table["raw"],
            "after": table["ours"],
            "rows": table,
            "held_out": len(held),
            "seconds": round(seconds),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "recipe": find_recipe(RECIPE).to_dict(),
            "environment": environment(),
        }
        write_json(options.json, record)


if __name__ == "__main__":
    main()
