"""An embedder's vectors in Qdrant, here in memory.

Run `python examples/search_qdrant.py my-embedder my_texts/ "a question"`.
"""

import sys

from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams
from sentence_transformers import SentenceTransformer

from selfembed import Corpus

folder, corpus, question = sys.argv[1:]
embedder, texts = SentenceTransformer(folder), list(Corpus(corpus))
vectors = embedder.encode_document(texts)
client = QdrantClient(":memory:")  # or a path, or url=...
client.create_collection("texts", VectorParams(size=vectors.shape[1], distance=Distance.COSINE))
points = [PointStruct(id=i, vector=v.tolist(), payload={"text": texts[i]}) for i, v in enumerate(vectors)]
client.upsert("texts", points)
for point in client.query_points("texts", embedder.encode_query(question).tolist(), limit=5).points:
    print(f"{point.score:.3f}  {point.payload['text']}")
