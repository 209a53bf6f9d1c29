"""An embedder's vectors in DuckDB, here in memory.

Run `python examples/search_duckdb.py my-embedder my_texts/ "a question"`.
"""

import sys

import duckdb
import pyarrow as pa
from sentence_transformers import SentenceTransformer

from selfembed import Corpus

folder, corpus, question = sys.argv[1:]
embedder, texts = SentenceTransformer(folder), list(Corpus(corpus))
vectors = embedder.encode_document(texts)
passages = pa.table({"text": texts, "vector": pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])})
database = duckdb.connect()  # or a file
database.execute("create table passages as select * from passages")
like = f"array_cosine_similarity(vector, ?::float[{vectors.shape[1]}])"
query = f"select {like} as score, text from passages order by score desc limit 5"
for score, text in database.execute(query, [embedder.encode_query(question).tolist()]).fetchall():
    print(f"{score:.3f}  {text}")
