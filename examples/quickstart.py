"""A search engine for the Python documentation, without labels, in ten minutes on two cores.

Trains the embedded backbone on the prose that every Python carries, and shows retrieval of a docstring's body from its
summary line, aligned tokens and live searches, before and after. Docstrings it is measured on are not trained on.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

from selfembed import Corpus, load_backbone, train
from selfembed.data.python_docs import DocstringPair, docstring_pairs, help_pages, python_docs, split_pairs
from selfembed.encoding.encode import encode
from selfembed.explanation.aligned_tokens import aligned_table, aligned_tokens
from selfembed.explanation.report.write import REPORT, leave_report
from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.ground.files import write_json
from selfembed.ground.progress import Bars, Progress
from selfembed.ground.quiet import quiet_libraries
from selfembed.model.backbone import best_dtype
from selfembed.model.embedder import EmbedderConfig, build_embedder
from selfembed.recipes import find_recipe

HELD_OUT = 300
READ_TOKENS = 96  # of a text, in the search before and after
RECIPE = "text2token-small"
TEXTS = [
    "Open a file and return a stream; raise OSError when the file cannot be opened.",
    "Compute the arithmetic mean of a sequence of numbers.",
    "Wait until the lock is released by another thread.",
]
SEARCHES = [
    "how do I read a compressed archive",
    "parse command line options",
    "run a function later in another process",
    "send an email message",
    "what is a decorator",
]


def embed(embedder, texts: list[str], progress: Progress, task: str) -> np.ndarray:
    """Unit vectors, float32, shape (texts, hidden)."""
    embedder.max_seq_length = READ_TOKENS
    return encode(embedder, texts, progress=progress, task=task, normalize_embeddings=True)


def retrieval(embedder, held: list[DocstringPair], progress: Progress, when: str) -> dict[str, float]:
    """Of bodies by their summaries, among the bodies of all held-out docstrings."""
    summaries = embed(embedder, [pair.summary for pair in held], progress, f"{when}: summaries")
    bodies = embed(embedder, [pair.body for pair in held], progress, f"{when}: bodies")
    similarity = summaries @ bodies.T
    rank = (similarity > np.diag(similarity)[:, None]).sum(1) + 1
    return {
        "ndcg@10": float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean()),
        "mrr@10": float(np.where(rank <= 10, 1 / rank, 0).mean()),
    }


def look(embedder, head, tokenizer, held: list[DocstringPair], progress: Bars, when: str) -> dict:
    """Scores and what there is to see of one embedder."""
    scores = retrieval(embedder, held, progress, when)
    pages = help_pages()
    page_vectors = embed(embedder, list(pages.values()), progress, f"{when}: help pages")
    similarity = embed(embedder, SEARCHES, progress, f"{when}: searches") @ page_vectors.T
    progress.close()
    return {
        **scores,
        "aligned": aligned_tokens(embedder, head, tokenizer, TEXTS),
        "found": [[list(pages)[i] for i in np.argsort(-row)[:4]] for row in similarity],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="quickstart-embedder", type=Path, help="folder of the embedder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the scores here")
    options = parser.parse_args()
    if options.out.exists():
        raise SystemExit(f"{options.out} exists already: remove it, or give --out another name")
    started = time.monotonic()
    quiet_libraries()
    progress = Bars()
    print("Reading the documentation that this Python carries, and unpacking the 135M backbone ...")
    backbone = load_backbone("embedded")
    _, held = split_pairs(docstring_pairs(), HELD_OUT, 0)
    kept = python_docs(held_out=[pair.qualified_name for pair in held])
    corpus = Corpus(kept, name=f"python-docs without {len(held)} docstrings")
    print(f"{len(corpus):,} paragraphs to train on; {len(held)} docstrings of other modules held out to measure with")
    raw = build_embedder(backbone, EmbedderConfig(), dtype=best_dtype("cpu"), device="cpu")
    before = look(raw, backbone.head(), backbone.tokenizer, held, progress, "before")
    del raw
    try:
        trained = train("embedded", corpus, RECIPE, out=options.out, seed=options.seed, progress=progress)
    finally:
        progress.close()
    trained = trained.to("cpu").to(best_dtype("cpu"))
    after = look(trained, backbone.head(), backbone.tokenizer, held, progress, "after")

    with progress:
        no_report = leave_report(options.out, corpus, model="embedded", progress=progress)
    print("\nFinding a docstring's body from its summary line, among", len(held), "held-out docstrings")
    print(f"{'':10}{'before':>10}{'after':>10}")
    for name in ("ndcg@10", "mrr@10"):
        print(f"{name:10}{before[name]:10.3f}{after[name]:10.3f}")
    print("\nWhat the embedding says, in the model's own words (* occurs in the text)")
    for i, text in enumerate(TEXTS):
        print(f"\n{text}")
        print("\n".join(aligned_table(before["aligned"][i][:6], after["aligned"][i][:6])))
    print("\nSearches among Python's", len(help_pages()), "help pages on modules and topics")
    for i, query in enumerate(SEARCHES):
        print(f"\n{query}")
        for when, view in (("before", before), ("after", after)):
            print(f"  {when:7}" + ", ".join(view["found"][i]))
    seconds = time.monotonic() - started
    print(f"\nDone in {seconds / 60:.1f} minutes, peak memory {peak_memory_gib():.1f} GiB. Embedder: {options.out}")
    print(
        f"There is no report: {no_report}"
        if no_report
        else f"Look at {options.out / REPORT} in a browser: losses, targets, what the embeddings say, before and after"
    )
    print(f'Next: .venv/bin/selfembed explain {options.out} "your text"')
    print(f"      .venv/bin/selfembed train --recipe {RECIPE} --corpus YOUR_FOLDER --out my-embedder --dry-run")
    if options.json:
        views = (("before", before), ("after", after))
        scores = {when: {metric: view[metric] for metric in ("ndcg@10", "mrr@10")} for when, view in views}
        record = {
            "seed": options.seed,
            **scores,
            "held_out": len(held),
            "seconds": round(seconds),
            "peak_memory_gib": round(peak_memory_gib(), 2),
            "recipe": find_recipe(RECIPE).to_dict(),
            "environment": environment(),
        }
        write_json(options.json, record)


if __name__ == "__main__":
    main()
