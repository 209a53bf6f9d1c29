"""An embedder's vectors in LanceDB, in the folder my-lancedb.

Run `python examples/search_lancedb.py my-embedder my_texts/ "a question"`.
"""

import sys

import lancedb
from sentence_transformers import SentenceTransformer

from selfembed import Corpus

folder, corpus, question = sys.argv[1:]
embedder, texts = SentenceTransformer(folder), list(Corpus(corpus))
rows = [{"text": t, "vector": v} for t, v in zip(texts, embedder.encode_document(texts), strict=True)]
table = lancedb.connect("my-lancedb").create_table("texts", rows, mode="overwrite")
for row in table.search(embedder.encode_query(question)).distance_type("cosine").limit(5).to_list():
    print(f"{1 - row['_distance']:.3f}  {row['text']}")
