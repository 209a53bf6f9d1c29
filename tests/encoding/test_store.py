from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from selfembed.encoding.store import VectorStore, text_key
from selfembed.errors import InputError

KEYS = [text_key(word) for word in ("one", "two", "three", "four")]
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_keys_tell_parts_apart() -> None:
    assert len({text_key("a", "b"), text_key("ab", ""), text_key("", "ab"), text_key("ab")}) == 4


def test_vectors_come_back_in_any_order_after_reopening(tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "store")
    assert KEYS[0] not in store
    store.add(KEYS[:3], VECTORS[:3])
    store.add(KEYS[3:], VECTORS[3:])
    for again in (store, VectorStore(tmp_path / "store")):
        assert len(again) == 4
        order = [3, 0, 2, 0, 1]
        np.testing.assert_array_equal(again.get([KEYS[i] for i in order]), VECTORS[order])


def test_only_complete_files_count(tmp_path: Path) -> None:
    store = VectorStore(tmp_path)
    store.add(KEYS[:2], VECTORS[:2])
    store.add(KEYS[2:], VECTORS[2:])
    assert not list(tmp_path.glob(".*"))
    cut = sorted(tmp_path.iterdir())[0]
    cut.write_bytes(cut.read_bytes()[:40])
    left = VectorStore(tmp_path)
    assert len(left) == 2
    missing = [i for i, key in enumerate(KEYS) if key not in left]
    left.add([KEYS[i] for i in missing], VECTORS[missing])
    np.testing.assert_array_equal(VectorStore(tmp_path).get(KEYS), VECTORS)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot write .*another folder"):
        VectorStore(tmp_path / "file").add(KEYS, VECTORS)
