"""`selfembed calibrate`: an affine map behind the pooling, chosen on unlabelled text."""

from __future__ import annotations

import argparse
import json

from selfembed.ground.progress import Bars


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    verb = verbs.add_parser(
        "calibrate",
        help="mend an embedder's vectors on your own text, without training",
        description="Choose an affine map (centring, a band of the spectrum, whitening) by which titles "
        "and sentences of your text find the rest of it best, and leave the embedder with it as a stock folder.",
    )
    verb.add_argument("model", metavar="MODEL", help="an embedder's folder, or a language model as train takes it")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("--corpus", nargs="+", metavar="C", help="your text, as train takes it")
    what.add_argument(
        "--remove",
        action="store_true",
        help="leave the embedder without its map, for servers and converters that ignore such modules",
    )
    verb.add_argument("--out", required=True, metavar="DIR", help="folder of the calibrated embedder")
    verb.add_argument("--pairs", type=int, default=500, metavar="N", help="pairs it is chosen by (default 500)")
    verb.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    verb.add_argument("--device", help="cpu, cuda (default: a GPU where there is one)")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(run=run, verb=verb, less_memory="a shorter corpus")


def run(options: argparse.Namespace) -> int:
    """Calibrates and prints how each map did."""
    from selfembed.calibration.calibrate import calibrate
    from selfembed.calibration.removal import remove_map

    if options.remove:
        remove_map(options.model, options.out)
        if options.json:
            print(json.dumps({"embedder": options.out}))
        else:
            print(f"embedder: {options.out} (without a map behind its pooling)")
        return 0
    with Bars() as progress:
        found = calibrate(
            options.model,
            options.corpus,
            out=options.out,
            pairs=options.pairs,
            seed=options.seed,
            device=options.device,
            progress=progress,
        )
    if options.json:
        print(json.dumps(found.to_dict(), indent=2))
        return 0
    choice = found.choice
    print(f"nDCG@10 of {choice.pairs} titles and sentences that seek the rest of their text:")
    for reading, tried in found.tried.items():
        print(f"  {reading}")
        for name, score in tried.scores.items():
            chosen = tried is choice and name == choice.map.name
            print(f"    {score:.3f}  {name}{'   <- chosen' if chosen else ''}")
    if choice.map.changes_nothing:
        print("no map is better than none: the embedder is as it was")
    else:
        print(
            "the map is a Dense and a LayerNorm behind the pooling; servers that ignore such modules give vectors "
            "without it (calibrate --remove leaves a folder so)"
        )
    print(f"embedder: {options.out}")
    return 0
