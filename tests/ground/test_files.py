"""Files and folders appear whole, whoever else writes the same one, and what was killed is swept away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfembed.errors import InputError
from selfembed.ground.files import arriving_file, arriving_folder, sweep_stale, write_json

LONG_NAME = "ü" * 120  # 240 bytes of 255

WRITER = """
import sys
from pathlib import Path
from selfembed.ground.files import arriving_file, arriving_folder
file, folder, letter = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
for _ in range(60):
    with arriving_file(file) as staging:
        staging.write_text(letter * 200_000)
    with arriving_folder(folder, shared=True) as staging:
        for part in range(3):
            (staging / str(part)).write_text("same")
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from selfembed.ground.files import arriving_folder
with arriving_folder(Path(sys.argv[1])) as staging:
    (staging / "weights").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.json", LONG_NAME])
def test_file_appears_when_complete(name, tmp_path):
    file = tmp_path / "new" / name
    with arriving_file(file) as staging:
        assert not file.exists() and staging.parent == file.parent
        staging.write_text("whole")
        assert not file.exists()
    assert names(file.parent) == [name] and file.read_text() == "whole"
    with pytest.raises(RuntimeError), arriving_file(file) as staging:
        staging.write_text("half")
        raise RuntimeError
    assert names(file.parent) == [name] and file.read_text() == "whole"


@pytest.mark.parametrize("name", ["out", LONG_NAME])
def test_folder_appears_when_complete(name, tmp_path):
    folder = tmp_path / name
    with pytest.raises(RuntimeError), arriving_folder(folder) as staging:
        (staging / "part").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []
    with arriving_folder(folder) as staging:
        (staging / "part").write_text("whole")
        assert not folder.exists()
    assert names(tmp_path) == [name] and (folder / "part").read_text() == "whole"


def test_two_writers_of_one_process_number_have_names_of_their_own(tmp_path):
    file = tmp_path / "a"
    with arriving_file(file) as slow:
        slow.write_text("slow")
        with arriving_file(file) as quick:
            quick.write_text("quick")
        assert file.read_text() == "quick"
    assert file.read_text() == "slow" and names(tmp_path) == ["a"]


def test_a_lost_race_is_an_error_only_where_the_name_does_not_tell_the_content(tmp_path):
    for shared in (True, False):
        folder = tmp_path / f"shared-{shared}"

        def both(folder=folder, shared=shared):
            with arriving_folder(folder, shared=shared) as slow:
                (slow / "slow").write_text("")
                with arriving_folder(folder, shared=shared) as quick:
                    (quick / "quick").write_text("")

        if shared:
            both()
        else:
            with pytest.raises(InputError, match=r"cannot write .*shared-False: Directory not empty"):
                both()
        assert names(folder) == ["quick"], "what is there is never touched"
    assert names(tmp_path) == ["shared-False", "shared-True"]


def test_processes_that_write_the_same_never_show_half_of_it(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(file), str(folder), letter], stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if file.exists():
            seen.add(file.read_text())
        if folder.exists():
            assert names(folder) == ["0", "1", "2"]
    assert [(writer.returncode, writer.stderr.read()) for writer in writers] == [(0, b""), (0, b"")]
    assert seen <= {"a" * 200_000, "b" * 200_000}
    assert names(tmp_path) == ["file", "folder"]


def test_what_a_killed_process_left_is_swept_once_it_is_old(tmp_path):
    folder = tmp_path / "out"
    run = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=60)
    assert run.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.") and (left / "weights").exists()
    with arriving_folder(folder) as staging:
        (staging / "weights").write_text("whole")
    assert left.exists(), "another process may still be at it"
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(left, (long_ago, long_ago))
    with arriving_file(folder.with_name("other")) as staging:
        staging.write_text("")
    assert left.exists(), "of another name, outside the cache"
    with arriving_folder(tmp_path / "sub" / "out"):
        pass
    assert left.exists(), "of another folder"
    with arriving_folder(folder, shared=True):
        assert not left.exists()


def test_sweeping_takes_nothing_but_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFEMBED_CACHE", str(tmp_path))
    mine = [".notes.tmp", ".a.0123456789abcdef.tmp.bak", "a.0123456789abcdef.tmp", ".a.0123456789ABCDEF.tmp", ".tmp"]
    stale = [".a.0123456789abcdef.tmp", ".b.0123456789abcdef.tmp"]
    for name in [*mine, *stale]:
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (0, 0))
    sweep_stale(tmp_path / "a")
    assert names(tmp_path) == sorted(mine), "in the cache, leftovers of anything"


def test_json(tmp_path):
    value = {"ü": ["\ud83d", "😀", 1.5, None]}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    assert "😀" in (tmp_path / "a.json").read_text(encoding="utf-8") and names(tmp_path) == ["a.json"]
    with pytest.raises(InputError, match=r"cannot write .*a.json/b.json: (Not a directory|File exists)"):
        write_json(tmp_path / "a.json" / "b.json", value)
