"""What mteb encodes with: a stock SentenceTransformer that encodes each distinct text once, ever.

Shapes: N texts, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import get_prompt_name
from mteb.types import PromptType
from peft.tuners.tuners_utils import BaseTunerLayer
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router

from selfembed.errors import InputError
from selfembed.evaluation.vectors import VectorStore, text_key
from selfembed.ground.files import cache_dir
from selfembed.ground.hashing import content_hash
from selfembed.ground.page import shorten
from selfembed.ground.progress import Progress, silent

_CHUNK = 512  # texts encoded and stored together, of about one length
_LONG, _FEW = 768, 8  # characters; of longer texts a CPU takes so many at a time: more leave its caches
_PLAIN = ("batch_size", "show_progress_bar", "num_proc")  # what may be asked of encode without changing its vectors


def embedder_hash(embedder: SentenceTransformer) -> str:
    """64 hex digits of SHA-256 over all that an embedder's vectors depend on.

    That is: weights, whether adapters are on, the modules and their settings, attention, tokenizer, maximum length,
    prompts. The same folder on another machine has the same hash; its name and place do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(embedder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(data.view(torch.uint8).numpy().data)
    digest.update(json.dumps(_description(embedder), sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _description(embedder: SentenceTransformer) -> dict[str, Any]:
    """What is not in the weights."""
    modules = []
    for module in embedder:
        settings = module.get_config_dict() if hasattr(module, "get_config_dict") else {}
        modules.append([type(module).__name__, settings])
    switches = {}
    for name, module in embedder.named_modules():
        if isinstance(module, BaseTunerLayer):
            switches[name] = [list(module.active_adapters), module.disable_adapters, module.merged]
        if "is_causal" in vars(module):
            switches[f"{name}.is_causal"] = vars(module)["is_causal"]
    config = getattr(embedder.transformers_model, "config", None)
    config = config.to_dict() if config is not None else {}
    names = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")  # where from and written by what
    return {
        "modules": modules,
        "switches": switches,
        "config": {key: value for key, value in config.items() if key not in names},
        "tokenizer": _tokenizer_description(embedder.tokenizer),
        "max_length": embedder.max_seq_length,
        "truncate_dim": embedder.truncate_dim,
        "prompts": embedder.prompts,
        "default_prompt": embedder.default_prompt_name,
    }


def _tokenizer_description(tokenizer: Any) -> Any:
    """The tokenizer's own file, without what each call sets anew."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "to_str"):
        described = json.loads(backend.to_str())
        if getattr(tokenizer, "split_special_tokens", False):
            described["split_special_tokens"] = True  # in no tokenizer.json
        return {key: value for key, value in described.items() if key not in ("truncation", "padding")}
    return getattr(tokenizer, "get_vocab", dict)()


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
        self._routed = any(isinstance(module, Router) for module in embedder)
        self._stores: dict[str, VectorStore] = {}
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
            batch_size: texts in one forward pass, at most: on a CPU fewer long ones.
            **settings: anything else that `SentenceTransformer.encode` takes.

        Returns:
            ``vectors_ND``, float32.

        Raises:
            InputError: a text has no usable vector, or the cache cannot be written.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        prompt = self._prompt(task_metadata, prompt_type)
        route = prompt_type.value if self._routed and prompt_type else ""
        self.asked += len(texts)
        self.prompts.add(prompt)
        for text in texts:
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            self._texts_sum = (self._texts_sum + int.from_bytes(digest, "big")) % 2**256  # a sum has no order
        settings = {key: value for key, value in settings.items() if key not in _PLAIN}
        keys = [text_key(prompt, route, text) for text in texts]
        store = self._store(settings) if self.cache else None
        missing = {key: text for key, text in zip(keys, texts, strict=True) if store is None or key not in store}
        # Long texts first: alike lengths share a batch, and memory runs out at once or not at all.
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True)
        fresh: dict[bytes, np.ndarray] = {}
        started = time.monotonic()
        for start in range(0, len(order), _CHUNK):
            self.progress(f"{task_metadata.name}, encoding", start, len(order))
            chunk = order[start : start + _CHUNK]
            chunk_texts = [missing[key] for key in chunk]
            few = self.embedder.device.type == "cpu" and len(chunk_texts[0]) > _LONG
            encode = self._long_vectors if few else self._vectors
            vectors_ND = encode(chunk_texts, prompt, prompt_type, batch_size=batch_size, **settings)
            if store is None:
                fresh.update(zip(chunk, vectors_ND, strict=True))
            else:
                store.add(chunk, vectors_ND)
        if order:
            self.progress(f"{task_metadata.name}, encoding", len(order), len(order))
            self.seconds += time.monotonic() - started
            self.encoded += len(order)
        return np.stack([fresh[key] for key in keys]) if store is None else store.get(keys)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The embedder's similarity of all pairs."""
        return self.embedder.similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The embedder's similarity of pairs."""
        return self.embedder.similarity_pairwise(embeddings1, embeddings2)

    def _prompt(self, task_metadata: Any, prompt_type: PromptType | None) -> str:
        """What stands before the texts: mteb's rules first, then sentence-transformers' own."""
        prompts = self.embedder.prompts or {}
        name = get_prompt_name(prompts, task_metadata, prompt_type)
        if name is None and prompt_type == PromptType.document:
            name = next((other for other in ("document", "passage", "corpus") if other in prompts), None)
        return prompts.get(name or self.embedder.default_prompt_name or "") or ""

    def _store(self, settings: dict[str, Any]) -> VectorStore:
        """Where the vectors of this embedder under these settings are."""
        key = content_hash(self.hash, self.embedder.max_seq_length, str(self.embedder.dtype), repr(settings))[:32]
        if key not in self._stores:
            self._stores[key] = VectorStore(cache_dir() / "vectors" / key)
        return self._stores[key]

    def _long_vectors(
        self, texts: list[str], prompt: str, prompt_type: PromptType | None, *, batch_size: int, **settings: Any
    ) -> np.ndarray:
        """The same, few at a time and, as padding costs a CPU what text costs it, sorted by tokens."""
        size = min(batch_size, _FEW)
        task = {"task": prompt_type.value} if prompt_type else {}
        features = self.embedder.preprocess(texts, prompt=prompt, **task)
        tokens_N = features["attention_mask"].sum(-1).numpy() if "attention_mask" in features else np.zeros(len(texts))
        order_N = np.argsort(-tokens_N, kind="stable")
        parts = (order_N[start : start + size] for start in range(0, len(texts), size))
        vectors_ND = np.concatenate([
            self._vectors([texts[row] for row in rows], prompt, prompt_type, batch_size=size, **settings)
            for rows in parts
        ])  # fmt: skip
        return vectors_ND[np.argsort(order_N)]

    def _vectors(self, texts: list[str], prompt: str, prompt_type: PromptType | None, **settings: Any) -> np.ndarray:
        encode = self.embedder.encode
        if prompt_type is not None:
            encode = self.embedder.encode_query if prompt_type == PromptType.query else self.embedder.encode_document
        vectors_ND = encode(texts, prompt=prompt, show_progress_bar=False, convert_to_numpy=True, **settings)
        vectors_ND = np.asarray(vectors_ND, dtype=np.float32)
        good_N = np.isfinite(vectors_ND).all(-1) & (vectors_ND != 0).any(-1)
        if not good_N.all():
            row = int(np.flatnonzero(~good_N)[0])
            kind = "zero" if np.isfinite(vectors_ND[row]).all() else "not finite (NaN or infinite)"
            raise InputError(
                f"the embedder's vector of {shorten(texts[row], 60)!r} is {kind}, expected numbers; evaluate it in "
                "float32, or with eager attention; if it stays so, the training diverged: lower the learning rate"
            )
        return vectors_ND
