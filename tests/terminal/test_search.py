"""The verbs index and search: from an embedder to answers; bad input is one line and status 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from urllib.request import urlopen

import pytest
from runs import short_train
from tiny import SENTENCES, save_tiny

from selfembed.terminal.main import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An embedder, texts, and their index with the sparse view."""
    folder = tmp_path_factory.mktemp("search")
    short_train(save_tiny("llama", folder / "raw", tied=True), folder / "embedder")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("\n\n".join(SENTENCES[:20]))
    (folder / "texts" / "b.jsonl").write_text(json.dumps({"text": SENTENCES[20]}) + "\n")
    arguments = ["--corpus", str(folder / "texts"), "--out", str(folder / "index"), "--sparse", "16"]
    assert main(["index", str(folder / "embedder"), *arguments]) == 0
    return folder


def refused(arguments, capsys) -> str:
    """The message, once it is proven to be the only line, with status 2."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("selfembed: error: ") and captured.out == "", captured
    return lines[0]


def test_search(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["search", "index", SENTENCES[7], "-k", "3"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "  1. texts/a.txt, line 15" and lines[1].strip() == SENTENCES[7] and captured.err == ""
    assert "dense 1.000 (rank 1), lexical" in lines[2] and len(lines) == 9


def test_json_with_why_and_the_sparse_view(place, capsys):
    assert main(["search", str(place / "index"), "violin concerto", "--json", "--why", "--sparse", "-k", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["query"] == "violin concerto" and found["mode"] == "hybrid" and len(found["hits"]) == 2
    hit = found["hits"][0]
    assert set(hit["sides"]) == {"dense", "lexical", "sparse"} and hit["file"].endswith(("a.txt", "b.jsonl"))
    assert set(hit["why"][0]) == {"word", "a", "b", "contribution"}
    shares = [word["contribution"] for word in hit["why"]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_why_on_the_screen(place, capsys):
    assert main(["search", str(place / "index"), "violin", "--why", "-k", "1", "--mode", "lexical"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].strip() == SENTENCES[7] and lines[3].startswith("     both say: '")


def test_index_again(place, tmp_path, capsys):
    shutil.copytree(place / "texts", tmp_path / "texts")
    arguments = [
        "index",
        str(place / "embedder"),
        "--corpus",
        str(tmp_path / "texts"),
        "--out",
        str(tmp_path / "index"),
    ]
    assert main(arguments) == 0
    assert "(2 sources, 2 of them new or changed; 21 passages, 21 texts encoded)" in capsys.readouterr().out
    (tmp_path / "texts" / "c.txt").write_text(SENTENCES[30])
    (tmp_path / "texts" / "d.pdf").write_text("x")
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "(3 sources, 1 of them new or changed; 22 passages, 1 texts encoded)" in captured.out
    assert "left out: 1 x file type not read: .pdf" in captured.err
    assert main(arguments) == 0
    assert "is up to date (3 sources, 22 passages)" in capsys.readouterr().out


def test_notes_go_to_standard_error(place, capsys):
    assert main(["search", str(place / "index"), "of the", "-k", "30", "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["hits"]) == 21
    assert captured.err.splitlines() == [
        "note: k 30: the index has 21 passages; here are all",
        "note: query 'of the': only stop words or signs; ranked by meaning alone",
    ]


def test_bad_input(place, tmp_path, capsys):
    index, embedder, texts = place / "index", place / "embedder", place / "texts"
    assert "query: empty" in refused(["search", index], capsys)
    assert "query: empty" in refused(["search", index, " "], capsys)
    assert "only stop words" in refused(["search", index, "of the", "--mode", "lexical"], capsys)
    assert "mode 'magic'" in refused(["search", index, "fox", "--mode", "magic"], capsys)
    assert "k 0" in refused(["search", index, "fox", "-k", "0"], capsys)
    assert "--rescore -1" in refused(["search", index, "fox", "--rescore", "-1"], capsys)
    assert "no such folder" in refused(["search", tmp_path / "none", "fox"], capsys)
    assert "leave out QUESTION" in refused(["search", index, "fox", "--serve"], capsys)
    assert "has no modules.json" in refused(
        ["index", place / "raw", "--corpus", texts, "--out", tmp_path / "x"], capsys
    )
    assert "no such file or folder" in refused(
        ["index", embedder, "--corpus", tmp_path / "none.txt", "--out", tmp_path / "x"], capsys
    )
    assert "is there already and no index" in refused(
        ["index", embedder, "--corpus", texts, "--out", embedder], capsys
    )
    assert not (tmp_path / "x").exists()


def test_embedder_that_changed_or_moved(place, tmp_path, capsys):
    shutil.copytree(place / "embedder", tmp_path / "embedder")
    arguments = ["--corpus", str(place / "texts"), "--out", str(tmp_path / "index")]
    assert main(["index", str(tmp_path / "embedder"), *arguments]) == 0
    (tmp_path / "embedder" / "README.md").write_text("a word on it changes no vector")
    assert main(["search", str(tmp_path / "index"), "violin", "-k", "1"]) == 0
    weights = tmp_path / "embedder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "made by another embedder" in refused(["search", tmp_path / "index", "violin"], capsys)
    assert "made by another embedder" in refused(["index", tmp_path / "embedder", *arguments], capsys)
    shutil.rmtree(tmp_path / "embedder")
    assert "say where it is now" in refused(["search", tmp_path / "index", "violin"], capsys)
    moved = ["--embedder", str(place / "embedder")]
    assert main(["search", str(tmp_path / "index"), "violin", "-k", "1", *moved]) == 0


def test_serve(place):
    command = [sys.executable, "-m", "selfembed", "search", str(place / "index"), "--serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            url = line.split()[0]
            assert url.startswith("http://127.0.0.1:"), process.stderr.read()
            with urlopen(f"{url}?q=violin+concerto&mode=lexical", timeout=60) as answer:
                assert SENTENCES[7] in answer.read().decode()
        finally:
            process.send_signal(2)
            assert process.wait(60) == 0
