"""An embedder's vectors in faiss.

Run `python examples/search_faiss.py my-embedder my_texts/ "a question"`.
"""

import sys

import faiss
from sentence_transformers import SentenceTransformer

from selfembed import Corpus

folder, corpus, question = sys.argv[1:]
embedder, texts = SentenceTransformer(folder), list(Corpus(corpus))
vectors = embedder.encode_document(texts, normalize_embeddings=True)
index = faiss.IndexFlatIP(vectors.shape[1])
index.add(vectors)
scores, rows = index.search(embedder.encode_query([question], normalize_embeddings=True), min(5, len(texts)))
for score, row in zip(scores[0], rows[0], strict=True):
    print(f"{score:.3f}  {texts[row]}")
