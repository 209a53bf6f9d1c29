"""The divergence over a vocabulary in chunks and in one piece: peak memory and time of loss and backward pass.

KL between the distributions of a student's and a teacher's hidden states. Each form runs in processes of its own, the
two in turns: the first run there gives the memory above what was held before it, the second the time. Prints one JSON
object a line; exit status 1 when a ratio is over its limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from selfembed.ground.environment import environment, peak_memory_gib
from selfembed.losses.divergence import chunked_kl
from selfembed.model.backbone import LMHead

LIMITS = {"peak_gib": 1 / 3, "seconds": 1.15}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--hidden", type=int, default=576)
    parser.add_argument("--tokens", type=int, default=4 * 512)
    parser.add_argument("--chunk-rows", type=int, help="default: what the library takes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--form", choices=("naive", "chunked"), help="measure this one, in this process")
    arguments = parser.parse_args()
    if arguments.form:
        print(json.dumps(measure(arguments)))
        return
    results: dict[str, list[dict[str, float]]] = {"naive": [], "chunked": []}
    for _ in range(arguments.repeats):
        for form, values in results.items():
            values.append(measured_elsewhere(form))
    shape = {name: getattr(arguments, name) for name in ("tokens", "hidden", "vocabulary", "device")}
    print(json.dumps({**shape, "dtype": "float32", "environment": environment()}))
    medians = {
        form: {name: statistics.median(value[name] for value in values) for name in values[0]}
        for form, values in results.items()
    }
    for form, values in medians.items():
        print(json.dumps({"run": form, **{f"median_{name}": round(value, 3) for name, value in values.items()}}))
    over = False
    for name, limit in LIMITS.items():
        ratio = medians["chunked"][name] / medians["naive"][name]
        over |= ratio > limit
        print(json.dumps({"ratio": name, "chunked_to_naive": round(ratio, 3), "limit": round(limit, 3)}))
    sys.exit(int(over))


def measured_elsewhere(form: str) -> dict[str, float]:
    """:func:`measure` in a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--form", form]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Peak memory in GiB of a first run, wall and processor seconds of a second; the loss, to compare the forms by."""
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    # In place, so that no larger memory than what stays was ever held.
    weight_VD = torch.randn(arguments.vocabulary, arguments.hidden, device=device).mul_(0.05)
    student_TD, teacher_TD = torch.randn(2, arguments.tokens, arguments.hidden, device=device)
    student_TD.requires_grad_()
    head = LMHead({"weight": weight_VD})

    def step() -> float:
        student_TD.grad = None
        if arguments.form == "naive":
            kl_T = naive_kl(student_TD, teacher_TD, head)
        else:
            kl_T = chunked_kl(student_TD, teacher_TD, head, chunk_rows=arguments.chunk_rows)
        loss = kl_T.mean()
        loss.backward()
        return loss.item()  # on a GPU, waits for it

    before = held_gib(device)
    loss = step()
    peak = held_gib(device) - before
    wall, processor = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"peak_gib": peak, "seconds": wall, "processor_seconds": processor, "loss": loss}


def naive_kl(student_TD: Tensor, teacher_TD: Tensor, head: nn.Module) -> Tensor:
    """KL(teacher || student) of each token from the logits of all."""
    with torch.no_grad():
        log_p_TV = head(teacher_TD).log_softmax(-1)
    return kl_div(head(student_TD).log_softmax(-1), log_p_TV, log_target=True, reduction="none").sum(-1)


def held_gib(device: torch.device) -> float:
    """The most memory held so far."""
    return torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else peak_memory_gib()


if __name__ == "__main__":
    main()
