"""A finished embedder without its affine map, for servers and converters that know decoder and pooling alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from selfembed.calibration.affine_map import map_of, without_map
from selfembed.errors import InputError
from selfembed.ground.files import arriving_folder, require_new, write_json
from selfembed.model.embedder import load_embedder

_TEXTS = ["A text to compare vectors by.", "River."]
_NOTE = """
Its affine map behind the pooling was taken out of this folder: the vectors are those that a server gives that leaves
the map out, and find less than those with it where the map was chosen because it finds more.
"""
_STILL = "\nIts WeightedLayerPooling is in it still, which such servers leave out too."


def remove_map(folder: str | Path, out: str | Path) -> None:
    """Copies an embedder's folder without the map behind its pooling, and proves that the vectors are those before it.

    Args:
        folder: The folder of the embedder, which is left as it is.
        out: The folder to make; it must not exist.

    Raises:
        InputError: There is no embedder, it has no map, `out` cannot be used, or its vectors are others.
    """
    folder, out = Path(folder).expanduser(), Path(out)
    require_new(out)
    embedder = load_embedder(folder, device="cpu")
    if map_of(embedder) is None:
        raise InputError(
            f"model {folder}: has no map behind its pooling; expected an embedder with one; use it as it is"
        )
    expected_ND = np.asarray(without_map(embedder).encode(_TEXTS, show_progress_bar=False))
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with arriving_folder(out) as staging:
        left_out = shutil.ignore_patterns("report.html", "calibration.json")  # both are of the embedder with its map
        shutil.copytree(folder, staging, ignore=left_out, dirs_exist_ok=True)
        kept = len([*without_map(embedder).children()])
        for module in modules[kept:]:
            shutil.rmtree(staging / module["path"])
        write_json(staging / "modules.json", modules[:kept])
        card = staging / "README.md"
        if card.is_file():
            paragraphs = card.read_text(encoding="utf-8").split("\n\n")
            place = next((n for n, one in enumerate(paragraphs) if one.lstrip().startswith("Its modules are")), None)
            if place is not None:
                averaged = any(module["type"].endswith("WeightedLayerPooling") for module in modules)
                paragraphs[place] = _NOTE.strip() + (_STILL if averaged else "")
                card.write_text("\n\n".join(paragraphs), encoding="utf-8")
        again = load_embedder(staging, device="cpu")
        actual_ND = np.asarray(again.encode(_TEXTS, show_progress_bar=False))
        if actual_ND.shape != expected_ND.shape or not np.allclose(actual_ND, expected_ND, rtol=1e-3, atol=1e-3):
            raise InputError(
                f"output {out}: the folder gives other vectors than the embedder before its map; nothing was saved; "
                "please report this with the model's name"
            )
