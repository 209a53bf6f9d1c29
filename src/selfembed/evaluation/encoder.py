"""The encoder that mteb is given: a stock SentenceTransformer that encodes each distinct text once, ever.

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
    """An encoder in the form that mteb wants (its `EncoderProtocol`), composed around a SentenceTransformer.

    It chooses prompts as mteb's own wrapper does. Each distinct text is encoded once and its vector is kept under
    `SELFEMBED_CACHE`, for other tasks and later calls. The name that mteb sees carries the embedder's content hash, so
    that mteb's cache of results can never give one local model the scores of another.

    Attributes:
        asked: The number of texts that mteb asked for since the last :meth:`reset`, repetitions included.
        encoded: The number of texts that were really encoded.
        seconds: The wall time in seconds that the encoding took.
        prompts: The prompts that were put before texts (`""` for none).
        texts_hash: A hash over the texts that mteb asked for.
    """

    def __init__(
        self, embedder: SentenceTransformer, *, name: str, cache: bool = True, progress: Progress = silent
    ) -> None:
        """Wraps an embedder.

        Args:
            embedder: Any SentenceTransformer.
            name: The embedder's name in results; it need not be unique.
            cache: Whether the vectors are kept on disk. Without, texts are still encoded once within a call.
            progress: Is told how many of the missing texts are encoded.
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
        """Returns 64 hex digits over the texts asked for since the last `reset`, in any order, without prompts."""
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
        """Encodes the texts of a DataLoader.

        Args:
            inputs: Batches with the key `text`.
            task_metadata: The metadata of the mteb task, which decide with `prompt_type` which of the embedder's
                prompts is used.
            hf_split: Not used, but part of mteb's protocol.
            hf_subset: Not used, but part of mteb's protocol.
            prompt_type: The role of the texts, query or document; None for neither.
            batch_size: The largest number of texts in one forward pass; on a CPU long texts come in smaller batches.
            **settings: Anything else that `SentenceTransformer.encode` takes.

        Returns:
            `vectors_ND` in float32, in the order of the texts.

        Raises:
            InputError: A text's vector is zero or not finite, or the cache cannot be written.
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
        """Returns the embedder's similarity of all pairs of two sets of embeddings."""
        return self.embedder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Returns the embedder's similarity of embeddings, pair by pair."""
        return self.embedder.similarity_pairwise(embeddings1, embeddings2)

    def _prompt(self, task_metadata: Any, prompt_type: PromptType | None) -> str:
        """Returns the prompt before the texts: by mteb's rules first, then by sentence-transformers' own."""
        name = get_prompt_name(self.embedder.prompts or {}, task_metadata, prompt_type)
        if name is None:
            return prompt_of(self.embedder, "document" if prompt_type == PromptType.document else None)
        return self.embedder.prompts.get(name) or ""

    def _budget(self, batch_size: int) -> TokenBudget:
        if self.embedder.device.type != "cpu":
            return TokenBudget(batch_size=batch_size)
        return budget_on("cpu", batch_size=batch_size, short=_SHORT)

    def _store(self, settings: dict[str, Any]) -> Vectors:
        """Returns where the vectors of this embedder under these settings are kept."""
        key = content_hash(self.hash, self.embedder.max_seq_length, str(self.embedder.dtype), repr(settings))[:32]
        if key not in self._stores:
            self._stores[key] = VectorStore(cache_dir() / "vectors" / key)
        return self._stores[key]
