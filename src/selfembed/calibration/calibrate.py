"""Makes the best embedder of a raw backbone, or of a finished one, that an affine map can make, without training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from selfembed.calibration.affine_map import add_map, map_of, parts_of, spectrum, without_map
from selfembed.calibration.choice import choose_map
from selfembed.calibration.readings import READINGS, Calibration, best_of
from selfembed.calibration.self_retrieval import PASSAGES_PER_PAIR, self_retrieval
from selfembed.data.corpus import Corpus
from selfembed.data.corpus_passages import last_passages
from selfembed.encoding.encode import encode
from selfembed.errors import InputError
from selfembed.ground.files import arriving_folder, require_new, write_json
from selfembed.ground.progress import Progress, silent
from selfembed.model.backbone import EMBEDDED, best_dtype, load_backbone
from selfembed.model.device import choose_device
from selfembed.model.embedder import build_embedder, load_embedder
from selfembed.model.stored_weights import dtype_of_folder, store_weights, stored_dtype

RECORD = "calibration.json"
_TEXT = "A text to compare vectors by."


def calibrate(
    model: str | Path = EMBEDDED,
    corpus: Any = None,
    *,
    out: str | Path,
    pairs: int = 500,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Chooses a reading and an affine map on unlabelled text and writes the embedder with them into a stock folder.

    Args:
        model: The folder of an embedder, or a language model (hub id, folder, GGUF file, `"embedded"`), which is
            then read raw, in each of :data:`selfembed.calibration.readings.READINGS`.
        corpus: The corpus, as :func:`selfembed.train` takes it; None takes `"python-docs"`.
        out: The folder to make; it must not exist.
        pairs: Number of queries of the self-retrieval that the map is chosen by, at most.
        seed: Seed for the texts that are drawn.
        device: `"cpu"`, `"cuda"` and the like; None takes a GPU where there is one.
        progress: Called with (task, done, total).

    Returns:
        The reading and the map that were chosen, and the scores of all that were tried.

    Raises:
        InputError: The model, the corpus, `out` or the device cannot be used, or the saved folder gives other vectors.
    """
    out = Path(out)
    require_new(out)
    texts = corpus if isinstance(corpus, Corpus) else Corpus("python-docs" if corpus is None else corpus)
    device = choose_device(device)
    folder = Path(model).expanduser()
    ready = (folder / "modules.json").is_file()
    search = self_retrieval(last_passages(texts, PASSAGES_PER_PAIR * pairs, seed=seed), pairs, seed=seed)
    if ready:
        embedder = load_embedder(folder, device=device)
        if map_of(embedder) is not None:
            raise InputError(f"model {folder}: has a map behind its pooling already; expected an embedder without one")
        vectors_ND = encode(embedder, search.texts, progress=progress, task="calibrating")
        found = best_of({"as it is": choose_map(search, vectors_ND, parts=parts_of(embedder))})
    else:
        backbone = load_backbone(model)
        spectrum_DD = spectrum(backbone.head().weight)

        def read(name: str) -> SentenceTransformer:
            return build_embedder(backbone, READINGS[name], dtype=best_dtype(device), device=device)

        tried = {}
        for name in READINGS:  # one model in memory at a time
            embedder = read(name)
            vectors_ND = encode(embedder, search.texts, progress=progress, task=f"calibrating, {name}")
            tried[name] = choose_map(search, vectors_ND, spectrum_DD=spectrum_DD, parts=parts_of(embedder))
            del embedder
        found = best_of(tried)
        embedder = read(found.reading)
    mapped = embedder if found.choice.map.changes_nothing else add_map(embedder, found.choice.map)
    expected_D = np.asarray(embedder.encode(_TEXT, show_progress_bar=False), dtype=np.float32)
    out.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(out) as staging:
        mapped.save(str(staging), create_model_card=False)
        (staging / "chat_template.jinja").unlink(missing_ok=True)
        stored = dtype_of_folder(folder) if ready else stored_dtype(embedder.transformers_model, "auto")
        if stored != embedder.dtype:
            store_weights(staging, stored)
        if ready:
            for file in folder.iterdir():  # the record, the decoder layer and the card stay with the embedder
                if file.is_file() and not (staging / file.name).exists():
                    shutil.copyfile(file, staging / file.name)
        write_json(staging / RECORD, {"model": str(model), "corpus": texts.name, **found.to_dict()})
        again = without_map(load_embedder(staging, device="cpu"))
        again_D = np.asarray(again.encode(_TEXT, show_progress_bar=False), dtype=np.float32)
        cosine = float(expected_D @ again_D / (np.linalg.norm(expected_D) * np.linalg.norm(again_D)))
        if not cosine > 0.99:
            raise InputError(
                f"output {out}: the folder gives other vectors than the model did (cosine {cosine:.5f}); nothing was "
                "saved; please report this with the model's name"
            )
    return found
