"""A ready embedder that was adapted becomes a folder of the same modules: merged, saved, loaded again and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from selfembed.ground.files import arriving_folder
from selfembed.model.backbone import Backbone
from selfembed.model.embedder import load_embedder
from selfembed.model.folder import RECORD, RunRecord
from selfembed.model.ready_embedder import ReadyEmbedder
from selfembed.model.stored_weights import store_weights, stored_dtype
from selfembed.recipes import Recipe
from selfembed.training.card import licence_in_words, metadata, stages_table, what_was_read
from selfembed.training.export import compare, merge, sound_vectors


def export_adapted(
    trained: SentenceTransformer,
    ready: ReadyEmbedder,
    recipe: Recipe,
    record: RunRecord,
    out: Path,
    *,
    weights: Backbone | None = None,
    saved_dtype: str = "auto",
) -> SentenceTransformer:
    """Merges the adapter into freshly loaded weights, saves them among the embedder's own modules, and compares.

    Args:
        trained: The embedder with its adapter.
        ready: The embedder that it was trained from, whose other modules, prompts and length are taken over.
        recipe: The recipe that it was trained by.
        record: The record of the run, which goes into the folder as `selfembed.json`.
        out: Folder to make.
        weights: Weights that the adapter is merged into; None takes those of the ready embedder.
        saved_dtype: Dtype of the transformer's weights on disk, as in `export_embedder`; but
            `"auto"` keeps that which it is computed in, so that an embedder shipped as it was is so to the last digit.

    Returns:
        The embedder as loaded from `out`.

    Raises:
        InputError: The folder cannot be written, or its vectors differ from those of the model in memory.
        TrainingDiverged: The vectors are zero or not finite.
    """
    trained.max_seq_length = ready.max_length
    expected_ND = sound_vectors(trained)
    out.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(out) as staging:
        merged = merge(trained, weights or ready.transformer, staging / "adapter")
        embedder = ready.load(dtype=merged.dtype, device="cpu")
        stored = merged.dtype if saved_dtype == "auto" else stored_dtype(merged, saved_dtype)
        if merged.dtype != torch.float32:
            merged = merged.to(stored)
        computed = merged.dtype
        embedder[0].model = merged
        embedder.save(str(staging), create_model_card=False)
        del embedder, merged  # one copy of the weights at a time
        if stored != computed:
            store_weights(staging, stored)
        reloaded = load_embedder(staging, device="cpu", trust_remote_code=ready.trust_remote_code)
        record = replace(
            record,
            saved_dtype=str(stored).removeprefix("torch."),
            cosine_to_model_in_memory=compare(expected_ND, reloaded, trained, stored),
        )
        record.to_file(staging / RECORD)
        names = [type(module).__name__ for module in reloaded]
        (staging / "README.md").write_text(adapted_card(recipe, record, names, reloaded.prompts or {}))
    return reloaded.to(trained.device)


def adapted_card(recipe: Recipe, record: RunRecord, modules: Sequence[str], prompts: Mapping[str, str]) -> str:
    """Writes the folder's README.md.

    Args:
        recipe: The recipe of the run.
        record: The record of the run.
        modules: Names of the embedder's modules.
        prompts: The embedder's prompts by name.
    """
    said = ", ".join(f"{name} `{prompt}`" for name, prompt in prompts.items() if prompt) or "none"
    bibtex = "\n\n".join(recipe.citations)
    base = record.origin or {"name": record.model}
    return f"""---
{metadata(record).to_yaml()}
---

# {base["name"]}, adapted

The embedder {base["name"]}, adapted with selfembed's recipe **{recipe.name}** to {what_was_read(recipe, record)}.
{_worth(record)}Modules, prompts and maximum length are its own; load and use it as you do that one:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
query = model.encode_query("a question")
similarities = model.similarity(query, model.encode_document(["a text", "another text"]))
```

| | |
|---|---|
| modules | {", ".join(modules)} |
| prompts | {said} |
| adapter, merged | LoRA r {recipe.lora.r}, alpha {recipe.lora.alpha}, dropout {recipe.lora.dropout} |
| seed | {record.seed} |

{stages_table(recipe)}

The whole record (versions, fingerprints, loss curves) is in `{RECORD}`. {licence_in_words(base)}

## Citation

```bibtex
{bibtex}
```
"""


def _worth(record: RunRecord) -> str:
    """Says what the training was worth on texts of the corpus, where that was measured."""
    judged = record.self_retrieval
    if judged is None:
        return ""
    before, after = (judged[side]["self_retrieval_ndcg@10"]["as it is"] for side in ("raw", "trained"))
    kept = "" if judged["shipped"] == "trained" else "; as that is no gain, its weights are here as they were"
    scores = f"nDCG@10 {before:.3f} before and {after:.3f} after"
    return f"A title or a sentence found the rest of its text among others with {scores}{kept}.\n"
