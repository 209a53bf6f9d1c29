"""The section on what was trained on what."""

from __future__ import annotations

import json

from markupsafe import Markup

from selfembed.explanation.report.material import ReportMaterial
from selfembed.explanation.report.parts import dim, lines, without
from selfembed.ground.page import box, fill, joined, table
from selfembed.model.folder import RECORD


def recipe_section(material: ReportMaterial) -> Markup:
    record = material.record
    if record is None:
        return without(f"the folder has no {RECORD}: selfembed did not train it, so its recipe is not known")
    recipe, report = record.recipe, record.corpus_report
    config, lora = record.config, recipe["lora"]
    versions = record.environment.get("versions", {})
    left_out = "; ".join(f"{count:,} x {reason}" for reason, count in report["skipped"].items()) or "nothing"
    facts = [
        ("backbone", f"{record.model} ({record.model_fingerprint[:12]})"),
        ("corpus", f"{record.corpus} ({record.corpus_fingerprint[:12]})"),
        ("", f"{report['texts']:,} texts, {report['words']:,} words; left out: {left_out}"),
        ("recipe", recipe["name"]),
        ("read as", f"{config.pooling} pooling, {config.attention} attention, prompt {config.template}"),
        ("adapter", f"LoRA r {lora['r']}, alpha {lora['alpha']}, dropout {lora['dropout']}"),
        ("run", f"seed {record.seed}, {record.dtype} on {record.device}, tagger {record.tagger}"),
        ("took", f"{record.seconds / 60:.1f} min, {record.peak_memory_gib:.1f} GiB at the most"),
        ("versions", ", ".join(f"{package} {version}" for package, version in versions.items())),
    ]
    stages = [
        (
            name,
            stage["objective"]["kind"],
            *(f"{stage[key]:,}" for key in ("steps", "batch_size", "max_length")),
            f"{stage['learning_rate']:g}",
        )
        for name, stage in recipe["stages"].items()
    ]
    return joined(
        [
            dim("What was trained on what; the stages ran from top to bottom."),
            box(fill('<tr class="wide"><th scope="row">{}</th><td>{}</td></tr>', *fact) for fact in facts),
            table(("stage", "objective", "steps", "texts a step", "tokens at most", "learning rate"), stages),
            fill(
                "<details><summary>Every number of the recipe</summary><pre>{}</pre></details>",
                lines(json.dumps(recipe, indent=2, ensure_ascii=False)),
            ),
        ]
    )
