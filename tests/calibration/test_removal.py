"""The folder without its map gives the vectors that stood in front of the map, to stock classes too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from runs import plain_embedder
from sentence_transformers import SentenceTransformer
from tiny import SENTENCES

from selfembed import InputError
from selfembed.calibration.affine_map import add_map, candidates
from selfembed.calibration.removal import remove_map
from selfembed.terminal.main import main
from selfembed.training.card import _behind_pooling

TEXTS = SENTENCES[:6]


@pytest.fixture
def mapped(tiny_backbone_dir, tmp_path):
    """The folder of a mapped embedder with a card, and its vectors in front of the map."""
    embedder, _, _ = plain_embedder(tiny_backbone_dir)
    vectors_ND = embedder.encode(TEXTS)
    *_, chosen = candidates(vectors_ND)
    with_map = add_map(embedder, chosen)
    folder = tmp_path / "mapped"
    with_map.save(str(folder), create_model_card=False)
    modules = [type(module).__name__ for module in with_map]
    (folder / "README.md").write_text(f"# Card\n{_behind_pooling(modules)}\n| pooling | last |\n")
    (folder / "report.html").write_text("of the embedder with its map")
    return folder, vectors_ND


def test_without_the_map_the_vectors_are_those_before_it(mapped, tmp_path):
    folder, vectors_ND = mapped
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert np.abs(SentenceTransformer(str(folder), device="cpu").encode(TEXTS) - vectors_ND).max() > 0.1
    remove_map(folder, tmp_path / "plain")
    stock = SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    assert [type(module).__name__ for module in stock] == ["Transformer", "Pooling"]
    np.testing.assert_allclose(stock.encode(TEXTS), vectors_ND, rtol=1e-4, atol=1e-5)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert not list((tmp_path / "plain").glob("*Dense")) and not (tmp_path / "plain" / "report.html").exists()
    assert "remove_map(" in before["README.md"].decode()
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "was taken out" in card and "Its modules are" not in card and "| pooling | last |" in card


def test_on_the_command_line(mapped, tmp_path, capsys):
    folder, _ = mapped
    plain, again = str(tmp_path / "plain"), str(tmp_path / "again")
    assert main(["calibrate", str(folder), "--remove", "--out", plain, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"embedder": plain}
    assert main(["calibrate", plain, "--remove", "--out", again]) == 2
    assert "has no map behind its pooling" in capsys.readouterr().err
    with pytest.raises(InputError, match="exists already"):
        remove_map(folder, plain)
    assert not (tmp_path / "again").exists()


def test_a_recipe_in_front_of_its_map_is_refused_in_the_words_of_the_command_line(tiny_backbone_dir, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(SENTENCES))
    arguments = ["train", "--model", str(tiny_backbone_dir), "--corpus", str(texts), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--no-calibrate"]) == 2
    said = capsys.readouterr().err
    assert "trains in front of its map" in said and "use --set calibration=none" in said and said.count("\n") == 1
    dry = ["--dry-run", "--device", "cpu"]
    assert main([*arguments, "--recipe", "bag-of-tokens", "--calibrate", *dry]) == 0
    assert '"calibration_pairs": 300' in capsys.readouterr().out
    assert main([*arguments, "--set", "calibration=none", "--no-calibrate", *dry]) == 0
    assert '"calibration": "none"' in capsys.readouterr().out
