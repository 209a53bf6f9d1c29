"""CONTRIBUTING's "to add an objective", followed to the letter."""

from __future__ import annotations

import json
import re
import shutil
import textwrap
from pathlib import Path

import processes

import selfembed

ROOT = Path(__file__).resolve().parent.parent.parent
RUN = """
import sys
from selfembed import Corpus, InputError, Recipe, Stage
from selfembed.explanation.report.build import build_report
from selfembed.objectives import Mixture, find_objective
from selfembed.training.estimate import estimate
from selfembed.training.plan import make_plan
from selfembed.training.run import run_plan
from tiny import SENTENCES

folder, model = sys.argv[1:]
toy = find_objective("{name}")
for name, objective in (("alone", toy), ("mixed", Mixture({{"{name}": 1.0, "two_views": 0.1}}))):
    recipe = Recipe(name=name, stages={{"toy": Stage(objective=objective, steps=2, batch_size=4, max_length=48)}})
    plan = make_plan(
        model, iter(SENTENCES), recipe, settings={{"{option}": "3"}}, dtype="float32", device="cpu", tagger="hanta"
    )
    assert estimate(plan).stages[0].texts == 8
    run_plan(plan, f"{{folder}}/{{name}}")
    assert type(toy).__name__ in build_report(f"{{folder}}/{{name}}", Corpus(iter(SENTENCES)), texts=4)
try:
    type(toy)({option}="much")
except InputError as error:
    print(error)
"""


def test_the_three_steps(tiny_backbone_dir, tmp_path):
    """The file as CONTRIBUTING prints it, its line in the registry, two steps; nothing else of the package changes.

    What the second step promises is seen: an estimate, a setting by name, a mixture, a report.
    """
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
    (option,) = re.findall(r"^    (\w+): float = ", code, re.MULTILINE)
    code = RUN.format(name=name, option=option)
    done = processes.run(code, str(tmp_path), str(tiny_backbone_dir), path=[str(tmp_path / "src")])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{option} 'much': expected a finite number"
    for run in ("alone", "mixed"):
        record = json.loads((tmp_path / run / "selfembed.json").read_text())
        objective = record["recipe"]["stages"]["toy"]["objective"]
        assert objective.get("parts", {name: objective})[name][option] == 3.0
        (stage,) = record["stages"]
        assert len(stage["loss_curve"]) == 2 and all(entry["loss"] > 0 for entry in stage["loss_curve"])
    assert list(stage["loss_curve"][0]["parts"]) == [name, "two_views"]
