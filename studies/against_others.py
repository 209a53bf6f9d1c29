"""What people use today against what unlabelled text can make: BM25, TF-IDF, MiniLM, raw, calibrated, trained.

    python studies/against_others.py --domains python-docs --rows bm25 minilm raw selfembed-small --seeds 0

Every domain's search is scored by nDCG@10, each embedder alone and fused with stemmed BM25, by standard scores as the
search does and by reciprocal rank. Trained rows read the domain's own passages; no row but MiniLM has seen a label.
Writes ``against_others_<preset>.json`` and ``.md`` after each row; what is in the file is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import domains
import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from rows import CALIBRATED, SIMCSE, UNTRAINED, label, made, vectors

from selfembed import Corpus
from selfembed.ground.environment import environment
from selfembed.ground.files import write_json
from selfembed.recipes import RECIPES
from selfembed.search.fusion import Fusion, fuse_scores

RESAMPLES = 2_000
WITH_BM25: dict[str, Fusion] = {"with_bm25_by_scores": "scores", "with_bm25": "ranks"}
LEXICAL = ("bm25", "bm25-stemmed", "tfidf")


def tfidf_scores(domain: domains.Domain) -> np.ndarray:
    """Cosines of TF-IDF vectors (scikit-learn, English stop words, sublinear), ``scores_QN``."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    documents = vectorizer.fit_transform(domain.documents)
    return (vectorizer.transform(domain.queries) @ documents.T).toarray()


def cosines(vectors_ND: np.ndarray, queries: int) -> np.ndarray:
    """``scores_QN`` of the vectors of queries and documents, one after the other."""
    vectors_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return vectors_ND[:queries] @ vectors_ND[queries:].T


def dense_scores(domain: domains.Domain, name: str, options: argparse.Namespace, seed: int) -> tuple[np.ndarray, dict]:
    """``scores_QN`` of an embedder, and what is to be recorded of it."""
    columns = {"text": [one.text for one in domain.passages], "title": [one.title for one in domain.passages]}
    corpus = Corpus(Dataset.from_dict(columns), name=domain.name)
    out = options.work / f"{domain.name}-{label(name, options.set)}-{seed}"
    embedder, notes = made(name, corpus, out, seed=seed, device=options.device, settings=options.set)
    texts = [*domain.queries, *domain.documents]
    return cosines(vectors(embedder, texts), len(domain.queries)), notes


def interval(gain_Q: np.ndarray) -> list[float]:
    """95 % of the means of resampled queries."""
    rng = np.random.default_rng(0)
    means = gain_Q[rng.integers(len(gain_Q), size=(RESAMPLES, len(gain_Q)))].mean(1)
    return [round(float(bound), 4) for bound in np.quantile(means, (0.025, 0.975))]


def scored(scores_QN: np.ndarray, domain: domains.Domain) -> dict[str, Any]:
    """nDCG@10 with its interval, and of each query."""
    gain_Q = domains.ndcg_at_10(scores_QN, domain)
    return {
        "ndcg@10": round(float(gain_Q.mean()), 4),
        "interval": interval(gain_Q),
        "by_query": [round(float(gain), 3) for gain in gain_Q],
    }


def fused(dense_QN: np.ndarray, lexical_QN: np.ndarray, domain: domains.Domain, fusion: Fusion) -> np.ndarray:
    """Both sides' scores as one, ``scores_QN``; a document that is the query itself is no candidate."""
    dense_QN, lexical_QN = dense_QN.copy(), lexical_QN.copy()
    for query, document in domain.itself.items():
        dense_QN[query, document], lexical_QN[query, document] = -1, 0
    return fuse_scores(dense_QN, lexical_QN, fusion=fusion)


def readers(options: argparse.Namespace) -> dict[str, Callable[[], domains.Domain]]:
    """The domains by name."""
    return {
        "python-docs": lambda: domains.python_docs(0),
        "python-docs-1": lambda: domains.python_docs(1),
        "python-docs-2": lambda: domains.python_docs(2),
        "biorxiv": lambda: domains.biorxiv(options.data),
        "wikinews": lambda: domains.wikinews(options.data),
        "arguana": lambda: domains.arguana(options.data),
        "foldoc": lambda: domains.foldoc(options.foldoc),
        "wordnet": lambda: domains.wordnet(options.wordnet),
    }


def lead(seeds: dict[str, Any], other: dict[str, Any]) -> str:
    """The mean difference of two rows' first seeds, query by query, with its standard error."""
    first, second = (next(iter(row.values()))["alone"]["by_query"] for row in (seeds, other))
    lead_Q = np.subtract(first, second)
    return f"{lead_Q.mean():+.3f} ± {lead_Q.std(ddof=1) / len(lead_Q) ** 0.5:.3f}"


def table(results: dict[str, Any]) -> str:
    """All results as Markdown."""
    lines = ["# Against what people use", ""]
    lines += [
        "nDCG@10, mean over seeds, 95 % interval over the queries of the first seed; differences ± a standard error."
    ]
    for name, domain in results["domains"].items():
        size = f"{domain['queries']} queries, {domain['documents']} documents"
        lines += ["", f"## {name}: {domain['question']}, {size}", ""]
        lines += [
            "| row | alone | + stemmed BM25 | the same by ranks | alone, less BM25 | less MiniLM | seeds | minutes |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row, seeds in domain["rows"].items():
            first = next(iter(seeds.values()))
            cells = []
            for side in ("alone", *WITH_BM25):
                values = [one[side]["ndcg@10"] for one in seeds.values() if side in one]
                bounds = first[side]["interval"] if values else []
                cells.append(f"{np.mean(values):.3f} ({bounds[0]:.3f}-{bounds[1]:.3f})" if values else "")
            minutes = [one["notes"]["minutes"] for one in seeds.values() if "minutes" in one["notes"]]
            others = (domain["rows"].get(name) for name in ("bm25-stemmed", "minilm"))
            cells += [lead(seeds, other) if other and other is not seeds else "" for other in others]
            took = f"{np.mean(minutes):.1f}" if minutes else ""
            lines.append(f"| {row} | {' | '.join(cells)} | {len(seeds)} | {took} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=["python-docs"])
    rows = [*LEXICAL, *UNTRAINED, CALIBRATED, "text2token-small", "selfembed-small"]
    parser.add_argument("--rows", nargs="+", default=rows)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--held-out", type=int, metavar="N", help="search N queries' documents with N queries")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with mteb, wiki, wikinews, biorxiv")
    parser.add_argument("--foldoc", type=Path, default=Path("/usr/share/dictd"))
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--work", type=Path, default=Path("out/against_others"), help="trained embedders")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", default="cpu", help="names the file of results")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="numbers of the recipes to replace")
    options = parser.parse_args()
    options.set = dict(one.split("=", 1) for one in options.set)
    disable_progress_bars()
    known = readers(options)
    for name in options.domains:
        if name not in known:
            raise SystemExit(f"domain {name!r}: expected one of {', '.join(known)}")
    for name in options.rows:
        if name not in (rows := (*LEXICAL, *UNTRAINED, CALIBRATED, SIMCSE, *RECIPES)):
            raise SystemExit(f"row {name!r}: expected one of {', '.join(rows)}")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / f"against_others_{options.preset}.json"
    results = json.loads(file.read_text()) if file.exists() else {"environment": environment(), "domains": {}}
    for name in options.domains:
        domain = known[name]()
        if options.held_out:
            domain = domains.first_queries(domain, options.held_out)
        entry = results["domains"].setdefault(
            name,
            {
                "question": domain.question,
                "passages": len(domain.passages),
                "queries": len(domain.queries),
                "documents": len(domain.documents),
                "rows": {},
            },
        )
        lexical_QN = domains.bm25_scores(domain, stemmed=True)
        for row in options.rows:
            named = row if row in LEXICAL else label(row, options.set)
            seeds = entry["rows"].setdefault(named, {})
            for seed in options.seeds if row in (*RECIPES, CALIBRATED, SIMCSE) else options.seeds[:1]:
                if str(seed) in seeds:
                    continue
                notes: dict[str, Any] = {}
                if row in LEXICAL:
                    stem = row == "bm25-stemmed"
                    scores_QN = tfidf_scores(domain) if row == "tfidf" else domains.bm25_scores(domain, stemmed=stem)
                else:
                    scores_QN, notes = dense_scores(domain, row, options, seed)
                found = {"alone": scored(scores_QN, domain), "notes": notes}
                if row not in LEXICAL:
                    for side, fusion in WITH_BM25.items():
                        found[side] = scored(fused(scores_QN, lexical_QN, domain, fusion), domain)
                seeds[str(seed)] = found
                write_json(file, results)
                file.with_suffix(".md").write_text(table(results))
                shown = [found[side]["ndcg@10"] for side in ("alone", *WITH_BM25) if side in found]
                print(name, named, seed, *shown, flush=True)


if __name__ == "__main__":
    main()
