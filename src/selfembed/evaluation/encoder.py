"""What mteb encodes with: a stock SentenceTransformer that encodes each distinct text once, ever.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
from mteb.models import ModelMeta
from mteb.models.abs_encoder import get_prompt_name
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer

from selfembed.encoding.encode import encode, prompt_of
from selfembed.encoding.identity import embedder_hash
from selfembed.encoding.store import TemporaryStore, Vectors, VectorStore
from selfembed.encoding.token_budget import TokenBudget, budget_on
from selfembed.ground.files import cache_dir
from selfembed.ground.hashing import content_hash
from selfembed.ground.progress import Progress, silent

# Characters. Batches of shorter texts are as mteb's own: with others SummEval's score differs in the third digit.
_SHORT = 768
_PLAIN = ("batch_size", "show_progress_bar", "num_proc")  # what may be asked of encode without changing its vectors


class CachedEncoder:
    """An encoder as mteb wants it (`EncoderProtocol`), composed around a SentenceTransformer.

    It chooses prompts as mteb's own wrapper does. Each distinct text is encoded once and its vector kept under
    ``SELFEMBED_CACHE``, for other tasks and later calls. Its name in mteb's eyes carries the embedder's content hash,
    so that mteb's cache of results can never serve one local model another's scores.

    Attributes:
        asked: texts that mteb asked for since the last `reset`, repetitions included.
        encoded: texts that were really encoded.
        seconds: wall seconds that took.
        prompts: the prompts that were put before texts ("" for none).
        texts_hash: over the texts that mteb asked for.
    """

    def __init__(
        self, embedder: SentenceTransformer, *, name: str, cache: bool = True, progress: Progress = silent
    ) -> None:
        """Wraps an embedder.

        Args:
            embedder: any SentenceTransformer.
            name: what it is called in results; need not be unique.
            cache: keep the vectors on disk. Without, texts are still encoded once within a call.
            progress: told how many of the missing texts are encoded.
        """
        self.embedder = embedder
        self.hash = embedder_hash(embedder)
        self.cache = cache
        self.progress = progress
        # As mteb's caches want it: organisation/name and a revision. Scores hang on the similarity too.
        identity = content_hash(self.hash, str(embedder.similarity_fn_name))
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={
                "name": f"local/{name.replace('/', '_')}-{identity[:12]}",
                "revision": identity[:40],
                "embed_dim": embedder.get_embedding_dimension(),
                "max_tokens": embedder.max_seq_length,
                "framework": ["Sentence Transformers", "PyTorch"],
            }
        )
        self._stores: dict[str, Vectors] = {}
        self.reset()

    def reset(self) -> None:
        """Sets the counters to zero."""
        self.asked, self.encoded, self.seconds = 0, 0, 0.0
        self.prompts: set[str] = set()
        self._texts_sum = 0

    @property
    def texts_hash(self) -> str:
        """64 hex digits over the texts asked for since the last `reset`, in any order, without prompts."""
        return f"{self._texts_sum:064x}"

    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        batch_size: int = 32,
        **settings: Any,
    ) -> np.ndarray:
        """Vectors of the texts of a DataLoader.

        Args:
            inputs: batches with the key ``text``.
            task_metadata: of the mteb task: decides, with ``prompt_type``, which of the embedder's prompts is used.
            hf_split: not used; part of mteb's protocol.
            hf_subset: not used.
            prompt_type: query, document or None.
            batch_size: texts in one forward pass, at most; on a CPU fewer long ones.
            **settings: anything else that `SentenceTransformer.encode` takes.

        Returns:
            ``vectors_ND``, float32.

        Raises:
            InputError: a text has no usable vector, or the cache cannot be written.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        prompt = self._prompt(task_metadata, prompt_type)
        self.asked += len(texts)
        self.prompts.add(prompt)
        for text in texts:
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            self._texts_sum = (self._texts_sum + int.from_bytes(digest, "big")) % 2**256  # a sum has no order
        settings = {key: value for key, value in settings.items() if key not in _PLAIN}
        store = self._store(settings) if self.cache else TemporaryStore()
        known, started = len(store), time.monotonic()
        vectors_ND = encode(
            self.embedder,
            texts,
            prompt=prompt,
            role=None if prompt_type is None else prompt_type.value,
            budget=self._budget(batch_size),
            store=store,
            progress=self.progress,
            task=f"{task_metadata.name}, encoding",
            **settings,
        )
        if fresh := len(store) - known:
            self.seconds += time.monotonic() - started
            self.encoded += fresh
        return vectors_ND

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The embedder's similarity of all pairs."""
        return self.embedder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The embedder's similarity of pairs."""
        return self.embedder.similarity_pairwise(embeddings1, embeddings2)

    def _prompt(self, task_metadata: Any, prompt_type: PromptType | None) -> str:
        """What stands before the texts: mteb's rules first, then sentence-transformers' own."""
        name = get_prompt_name(self.embedder.prompts or {}, task_metadata, prompt_type)
        if name is None:
            return prompt_of(self.embedder, "document" if prompt_type == PromptType.document else None)
        return self.embedder.prompts.get(name) or ""

    def _budget(self, batch_size: int) -> TokenBudget:
        if self.embedder.device.type != "cpu":
            return TokenBudget(batch_size=batch_size)
        return budget_on("cpu", batch_size=batch_size, short=_SHORT)

    def _store(self, settings: dict[str, Any]) -> Vectors:
        """Where the vectors of this embedder under these settings are."""
        key = content_hash(self.hash, self.embedder.max_seq_length, str(self.embedder.dtype), repr(settings))[:32]
        if key not in self._stores:
            self._stores[key] = VectorStore(cache_dir() / "vectors" / key)
        return self._stores[key]
