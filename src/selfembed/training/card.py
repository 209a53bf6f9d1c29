"""The model card of a finished embedder: the README.md of its folder, whose head the hub reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from huggingface_hub import ModelCardData

from selfembed.model.folder import RECORD, RunRecord
from selfembed.model.pooling import FILE
from selfembed.recipes import Recipe

# The values of `license` that the hub's check takes; any other is `other`, with a name.
_LICENCES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openmdw-1.1 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown other
    """.split()
)
_PERMISSION = f"""
The embedding is the mean over several memory tokens, which no pooling of sentence-transformers computes. The module
that does is the file `{FILE}` in this folder; `trust_remote_code=True` is the permission to run it. With selfembed
installed, `selfembed.model.embedder.load_embedder("path/to/this/folder")` uses its own copy and needs no permission.
"""


def model_card(recipe: Recipe, record: RunRecord, modules: Sequence[str]) -> str:
    """Writes the folder's README.md.

    Args:
        recipe: The recipe of the run.
        record: The record of the run.
        modules: Names of the embedder's modules.
    """
    config = recipe.embedder
    assert config is not None
    several = config.memory_tokens > 1
    base = record.origin or {"name": record.model}
    bibtex = "\n\n".join(recipe.citations)
    memory = f"\n| memory tokens (in the tokenizer) | {config.memory_tokens} |" if config.memory_tokens else ""
    return f"""---
{metadata(record).to_yaml()}
---

# Text embedder from {base["name"]}

Made with selfembed's recipe **{recipe.name}** from {what_was_read(recipe, record)}.
It loads in sentence-transformers (6.0 or later, with transformers 5.2 or later):

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder"{", trust_remote_code=True" if several else ""})
vectors = model.encode(["a text", "another text"])
similarities = model.similarity(vectors, vectors)
```
{_PERMISSION if several else ""}{_behind_pooling(modules)}{_instructions(record)}
| | |
|---|---|
| pooling | {config.pooling} |{memory}
| attention | {config.attention} |
| prompt (in the tokenizer; add none yourself) | `{config.template}` |
| adapter, merged | LoRA r {recipe.lora.r}, alpha {recipe.lora.alpha}, dropout {recipe.lora.dropout} |
| seed | {record.seed} |

{stages_table(recipe)}

The whole record (versions, fingerprints, loss curves) is in `{RECORD}`. The folder is an embedder: it no longer
generates text. {licence_in_words(base)}

## Citation

```bibtex
{bibtex}
```
"""


def metadata(record: RunRecord) -> ModelCardData:
    """Makes the head of the card, which the hub reads; what is not known is not in it.

    `base_model`, `license` and its like are the backbone's, as far as its files say (:mod:`selfembed.model.origin`);
    `datasets` are those sources of the texts and pairs that were named by their ids on the hub. `language` is what was
    said of the texts, or the language of the tagger that read them; otherwise it is left out, since nothing else here
    tells a text's language: the backbone's own languages are not those of the corpus.
    """
    base = record.origin or {}
    ids = base.get("hub_ids", [])
    licence, link = base.get("licence"), base.get("licence_link")
    named = base.get("licence_name")
    if licence is not None and licence not in _LICENCES:
        licence, named = "other", licence
    other = licence == "other"
    words: dict[str, Any] = {
        "language": record.language,
        "license": licence,
        "license_name": re.sub(r"[^a-z0-9.]+", "-", named.lower()).strip("-") if other and named else None,
        "license_link": link if other else None,
        "base_model": ids[0] if len(ids) == 1 else ids or None,
        "datasets": record.datasets,
    }
    return ModelCardData(
        **{key: value for key, value in words.items() if value},
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "selfembed"],
    )


def licence_in_words(base: dict[str, Any]) -> str:
    """Says whose licence the weights come under."""
    if "licence" not in base:
        return "The backbone's licence applies; its files do not name it."
    name = base.get("licence_name") or base["licence"]
    where = f" ({base['licence_link']})" if "licence_link" in base else ""
    return f"The backbone's licence applies: {name}{where}."


def stages_table(recipe: Recipe) -> str:
    """Writes the recipe's stages as a table in Markdown."""
    rows = (
        f"| {name} | {stage.objective.display_name} | {stage.steps} | {stage.batch_size} | {stage.max_length} "
        f"| {stage.learning_rate:g} |"
        for name, stage in recipe.stages.items()
    )
    head = "| stage | objective | steps | batch | length | learning rate |\n|---|---|---|---|---|---|"
    return "\n".join((head, *rows))


def _behind_pooling(modules: Sequence[str]) -> str:
    """Says what a server may leave out; nothing where there are but a decoder and its pooling."""
    more = [name for name in modules if name in ("WeightedLayerPooling", "Dense", "LayerNorm")]
    if not more:
        return ""
    without = ""
    if "Dense" in more:
        as_read = ", as they read it" if "WeightedLayerPooling" not in more else ""
        call = 'remove_map("FOLDER", "NEW")'
        without = f"`{call}` of `selfembed.calibration.removal` leaves it without its map{as_read}.\n"
    return (
        f"\nIts modules are {', '.join(modules)}. Servers and converters that know decoder and pooling alone (vLLM, "
        f"llama.cpp) leave out {', '.join(more)} and give other vectors: compare a few with those of "
        f"sentence-transformers before you rely on one.\n{without}"
    )


def what_was_read(recipe: Recipe, record: RunRecord) -> str:
    """Says in words what the recipe's stages read."""
    read = [f"{one['rows']:,} labelled pairs of `{one['name']}`" for one in record.pairs or []]
    if any(stage.texts for stage in recipe.stages.values()):
        texts = f"{record.corpus_report['texts']:,} texts of `{record.corpus}`"
        read.insert(0, texts if read else f"unlabelled text alone: {texts}")
    return ", ".join(read)


def _instructions(record: RunRecord) -> str:
    """Says how to embed a query; nothing if no set of pairs had an instruction."""
    lines = [f"- `{one['instruction']}: QUERY`" for one in record.pairs or [] if one["instruction"]]
    if not lines:
        return ""
    return "\nQueries were trained with an instruction; embed yours so too, and other texts bare:\n\n" + (
        "\n".join(dict.fromkeys(lines)) + "\n"
    )
