"""Gathers what a sweep on a lent GPU reads, small enough to be carried there: texts, targets, evaluation data.

    python studies/sweep_data.py --data DATA --out FOLDER

Writes ``FOLDER/domains/NAME.json.gz``, ``FOLDER/targets/NAME.npz``, ``FOLDER/mteb`` and ``FOLDER/tokenizer.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import domains
import numpy as np
import pyarrow.parquet as pq

from selfembed import load_backbone
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import EmbedderConfig, embedder_prompt
from selfembed.objectives.data_driven import DataDriven
from selfembed.targets.data_driven import TokenStatistics, build_targets
from selfembed.targets.tagger import load_tagger

WIKI_PASSAGES = 46_000  # 500 + 200 steps of 64
NEWS_PASSAGES = 8_000


def wiki(data: Path) -> domains.Domain:
    """Wikipedia: the title of an article finds its passages; here only the first of each is searched."""
    dev = pq.read_table(data / "wiki" / "passages_dev.parquet").to_pydict()
    held: dict[str, str] = {}
    for title, text in zip(dev["title"], dev["text"], strict=True):
        held.setdefault(title, text)
    table = pq.read_table(data / "wiki" / "passages.parquet").slice(0, WIKI_PASSAGES).to_pydict()
    numbers: dict[str, int] = {}
    passages = [
        domains.passage(text, numbers.setdefault(name.rpartition("-")[0], len(numbers)), title)
        for name, title, text in zip(table["id"], table["title"], table["text"], strict=True)
    ]
    return domains.Domain(
        name="wiki",
        question="title of an article -> its first passage",
        passages=passages,
        queries=list(held),
        documents=list(held.values()),
        relevant=range(len(held)),
    )


def write_domain(domain: domains.Domain, out: Path) -> None:
    """One domain as JSON."""
    record = asdict(domain) | {"relevant": list(domain.relevant), "itself": list(domain.itself.items())}
    record["passages"] = [[passage.text, passage.document, passage.title] for passage in domain.passages]
    out.mkdir(parents=True, exist_ok=True)
    with gzip.open(out / f"{domain.name}.json.gz", "wt", encoding="utf-8") as stream:
        json.dump(record, stream, ensure_ascii=False)


def write_targets(texts: Sequence[str], backbone: Backbone, options: DataDriven, file: Path) -> None:
    """Data-driven targets of texts as offsets, token ids and weights."""
    tagger = load_tagger()
    statistics = TokenStatistics.collect(iter(texts), backbone.tokenizer, options, backbone.vocab_size)
    built = build_targets(texts, backbone.tokenizer, tagger, statistics, options, backbone.vocab_size)
    rows = [built.row(i) for i in range(len(texts))]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        file,
        offsets=np.cumsum([0, *(len(ids) for ids, _ in rows)]),
        ids=np.concatenate([ids for ids, _ in rows]).astype(np.uint16),
        weights=np.concatenate([weights for _, weights in rows]).astype(np.float16),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mteb, wiki, wikinews and biorxiv")
    parser.add_argument("--foldoc", type=Path, default=Path("/usr/share/dictd"))
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    backbone = load_backbone("embedded")
    prompt = embedder_prompt(backbone, EmbedderConfig())
    options.out.mkdir(parents=True, exist_ok=True)
    backbone.tokenizer.backend_tokenizer.save(str(options.out / "tokenizer.json"))
    (options.out / "prompt.json").write_text(json.dumps({"before": prompt.before, "after": prompt.after}))
    if not (options.out / "mteb").exists():
        shutil.copytree(options.data / "mteb", options.out / "mteb")
    found = [
        *(domains.python_docs(split) for split in (0, 1, 2)),
        domains.biorxiv(options.data),
        domains.arguana(options.data),
        domains.foldoc(options.foldoc),
        domains.wordnet(options.wordnet),
        domains.wikinews(options.data, NEWS_PASSAGES),
        wiki(options.data),
    ]
    for domain in found:
        write_domain(domain, options.out / "domains")
        print(domain.name, len(domain.passages), flush=True)
    for domain in found:
        if domain.name != "wordnet":
            texts = [passage.text for passage in domain.passages]
            file = options.out / "targets" / f"{domain.name}.npz"
            write_targets(texts, backbone, DataDriven(variants="merge"), file)
            print("targets", domain.name, flush=True)


if __name__ == "__main__":
    main()
