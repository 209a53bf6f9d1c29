"""`selfembed doctor`: whether a backbone can be used."""

from __future__ import annotations

import argparse

from selfembed.terminal.wording import worded


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser("doctor", help="examine a backbone", description="Examine a backbone.")
    verb.add_argument("--model", default="embedded", help="hub id, folder, GGUF file or 'embedded' (default)")
    verb.add_argument("--trust-remote-code", action="store_true", help="let the model's own Python code run")
    # What it advises is for training: messages name the options of that verb.
    verb.set_defaults(run=run, verb=verbs.choices["train"], less_memory="a smaller model")


def run(options: argparse.Namespace) -> int:
    """Prints what was found, and returns 1 where the backbone is not usable."""
    from selfembed.doctor import examine

    diagnosis = examine(options.model, trust_remote_code=options.trust_remote_code)
    for topic, finding, good in diagnosis.findings:
        print(worded(f"{'ok  ' if good else 'note'} {topic}: {finding}", options))
    print(worded(diagnosis.verdict, options))
    return 0 if diagnosis.usable else 1
