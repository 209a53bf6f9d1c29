"""CONTRIBUTING's "to add an objective", followed to the letter."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import selfembed

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = """
import sys
from selfembed import Stage, Recipe, train
from selfembed.objectives import Mixture, find_objective
from tiny import SENTENCES

folder, model = sys.argv[1:]
toy = find_objective("{name}")
for name, objective in (("alone", toy), ("mixed", Mixture({{"{name}": 1.0, "two_views": 0.1}}))):
    stage = Stage(objective=objective, steps=2, batch_size=4, max_length=48)
    train(
        model, iter(SENTENCES), Recipe(name=name, stages={{"toy": stage}}), out=f"{{folder}}/{{name}}",
        dtype="float32", device="cpu",
    )
"""


def test_the_three_steps(tiny_backbone_dir, tmp_path):
    """The file as CONTRIBUTING prints it, its line in the registry, two steps; nothing else of the package changes."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## To add an objective")[2].partition("\n## ")[0]
    steps = re.findall(r"^(\d)\. ", section, re.MULTILINE)
    assert steps == ["1", "2", "3"]
    place, line, name = re.findall(r"`(objectives/\w+\.py)`.*?`(\"(\w+)\": \w+,)`", section, re.DOTALL)[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    code = textwrap.dedent(f"   {code.lstrip()}")
    package = tmp_path / "src" / "selfembed"
    shutil.copytree(Path(selfembed.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / place).write_text(code)
    registry = package / "objectives" / "registry.py"
    text = registry.read_text()
    kind = line.split()[-1].rstrip(",")
    text = text.replace("\nOBJECTIVES", f"\nfrom selfembed.objectives.{Path(place).stem} import {kind}\n\nOBJECTIVES")
    registry.write_text(re.sub(r"(OBJECTIVES: .* = \{\n)", rf"\1    {line}\n", text))
    paths = [str(tmp_path / "src"), str(ROOT / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", RUN.format(name=name), str(tmp_path), str(tiny_backbone_dir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for run in ("alone", "mixed"):
        (stage,) = json.loads((tmp_path / run / "selfembed.json").read_text())["stages"]
        assert len(stage["loss_curve"]) == 2 and all(entry["loss"] > 0 for entry in stage["loss_curve"])
    assert list(stage["loss_curve"][0]["parts"]) == [name, "two_views"]
