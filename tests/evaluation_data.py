"""Small files and folders to evaluate on, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tiny import SENTENCES
from tokenizers import Tokenizer, models, pre_tokenizers


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def write_parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file


def pairs(first: str = "sentence1", second: str = "sentence2") -> list[dict[str, Any]]:
    """Thirty pairs; the more words of the first sentence stand in the second, the higher the score."""
    rows = []
    for i, sentence in enumerate(SENTENCES[:30]):
        words, others = sentence.split(), SENTENCES[i + 20].split()
        kept = len(words) * (i % 6) // 5
        rows.append({first: sentence, second: " ".join(words[:kept] + others[kept:]), "score": float(i % 6)})
    return rows


def labelled() -> list[dict[str, Any]]:
    """Forty texts of two labels that differ in wording."""
    rows = [{"text": f"{sentence} It is cold.", "label": "cold"} for sentence in SENTENCES[:20]]
    return rows + [{"text": f"Nobody knows: {sentence}", "label": "unknown"} for sentence in SENTENCES[20:40]]


def retrieval_folder(folder: Path) -> Path:
    """Documents, each to be found by its first words, in the form of BEIR."""
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(SENTENCES[:20])]
    write_jsonl(folder / "corpus.jsonl", documents)
    queries = [{"_id": f"q{i}", "text": " ".join(text.split()[:5])} for i, text in enumerate(SENTENCES[:12])]
    write_jsonl(folder / "queries.jsonl", queries)
    rows = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in range(10))]  # two queries are not judged
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder


def compass(**spoilt: float) -> SentenceTransformer:
    """An embedder of known vectors: "w30" is the unit vector at 30 degrees, times ``spoilt["w30"]`` if given."""
    words = {f"w{degrees}": degrees for degrees in range(360)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    angles_V = np.deg2rad(np.arange(360))
    vectors_VD = np.stack([np.cos(angles_V), np.sin(angles_V)], axis=1).astype(np.float32)
    for word, factor in spoilt.items():
        vectors_VD[words[word]] *= factor
    return SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors_VD)], device="cpu")
