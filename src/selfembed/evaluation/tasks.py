"""The tasks that are run: of a benchmark, by name, from a local folder, over the user's own data."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate

from selfembed.errors import InputError
from selfembed.evaluation.data_check import DataCheck
from selfembed.evaluation.local_data import load_local
from selfembed.evaluation.own_data import folder_task


@dataclass(frozen=True, kw_only=True)
class ChosenTask:
    """A task to run, or the reason why it is not run.

    Attributes:
        task: The task object of mteb, fresh, so that its draws are those of its seed.
        data: The source of its data: `hub`, `own data`, a verdict of
            :class:`~selfembed.evaluation.data_check.DataCheck`, or `none`.
        note: A sentence on how local data differs from mteb's.
        reason: The reason why the task is not run; None if it is run.
        in_benchmark: Whether the task belongs to the benchmark that was asked for.
    """

    task: AbsTask
    data: str
    note: str = ""
    reason: str | None = None
    in_benchmark: bool = False

    @property
    def name(self) -> str:
        """The task's name."""
        name: str = self.task.metadata.name
        return name

    @property
    def comparable(self) -> bool:
        """Tells whether its score may stand beside mteb's published ones."""
        return self.data in ("hub", "exact", "near")


def choose_tasks(
    *,
    benchmark: str | None = None,
    tasks: Sequence[str] | None = None,
    data: str | Path | None = None,
    own: Sequence[AbsTask] = (),
) -> list[ChosenTask]:
    """Chooses the tasks to run; loads and checks those from local files, while the hub's are loaded when they run.

    Args:
        benchmark: The name of one of mteb's benchmarks, such as `"MTEB(eng, v2)"`.
        tasks: Names of tasks; with a benchmark, those of its tasks to run. A task that is named without a benchmark is
            run on its test split, where it has one, as mteb's benchmarks do, in all languages that there is data of.
        data: A folder with one sub-folder for each task; nothing is then taken from the hub. Without a benchmark,
            tasks and own data, everything in the folder is run. A sub-folder that is not named like a task of mteb's
            is read as its columns say.
        own: Tasks over data of your own, see :mod:`selfembed.evaluation.own_data`.

    Returns:
        The tasks, those without data included.

    Raises:
        InputError: A name is unknown or given twice, there is nothing to run, the folder does not exist, or local data
            cannot be used.
    """
    folder = Path(data) if data is not None else None
    if folder is not None and not folder.is_dir():
        raise InputError(
            f"data {folder}: there is no such folder; expected one with a sub-folder for each task; correct the path"
        )
    if isinstance(tasks, str):
        tasks = [tasks]
    if benchmark is not None:
        found = [(task, True) for task in _of_benchmark(benchmark, tasks)]
    elif tasks is not None:
        found = [(_by_name(name, folder), False) for name in dict.fromkeys(tasks)]
    elif folder is not None and not own:
        names = sorted(place.name for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
        found = [(_by_name(name, folder), False) for name in names]
    else:
        found = []
    chosen = [_with_data(task, folder, in_benchmark) for task, in_benchmark in found]
    for task in _named_apart(own, [one.name for one in chosen]):
        chosen.append(ChosenTask(task=task, data="own data", note=getattr(task, "note", "")))
    if not chosen:
        raise InputError(
            "tasks: none given; expected something to evaluate on; give a benchmark such as 'MTEB(eng, v2)', tasks "
            "such as 'STSBenchmark', a folder with data, or data of your own"
        )
    name, count = Counter(one.name for one in chosen).most_common(1)[0]
    if count > 1:
        raise InputError(f"task {name!r}: given {count} times; expected names that differ; rename its file or folder")
    return chosen


def benchmark_size(name: str) -> int:
    """Returns the number of tasks in a benchmark."""
    return len(mteb.get_benchmark(name).tasks)


def fresh(task: AbsTask) -> AbsTask:
    """Copies a task, with its random state as new: mteb's draws go on from one evaluation to the next otherwise."""
    copy = type(task)()
    copy.hf_subsets = list(task.hf_subsets)
    copy.filter_eval_splits(list(task.eval_splits))
    if task.data_loaded:
        copy.dataset, copy.data_loaded = task.dataset, True
    return copy


def _named_apart(own: Sequence[AbsTask], others: Sequence[str]) -> list[AbsTask]:
    """Copies own tasks, and adds the kind to names that are shared: one file may be classified and clustered."""
    counts = Counter([*others, *(task.metadata.name for task in own)])
    copies = [fresh(task) for task in own]
    for copy in copies:
        about = copy.metadata
        if counts[about.name] > 1:
            copy.metadata = about.model_copy(update={"name": f"{about.name} ({about.type})"})
    return copies


def _of_benchmark(name: str, tasks: Sequence[str] | None) -> list[AbsTask]:
    try:
        found = {task.metadata.name: task for task in mteb.get_benchmark(name).tasks}
    except KeyError:
        near = _near(name, [other.name for other in mteb.get_benchmarks()])
        raise InputError(f"benchmark {name!r}: mteb has none of that name; {near}") from None
    for other in tasks or ():
        if other not in found:
            raise InputError(f"task {other!r}: {name} has none of that name; {_near(other, list(found))}")
    return [fresh(task) for other, task in found.items() if tasks is None or other in tasks]


def _by_name(name: str, folder: Path | None) -> AbsTask:
    """Finds the task of that name in mteb; else its second version; else what the folder of that name holds."""
    for other in (name, f"{name}.v2"):
        try:
            task = mteb.get_task(other)
        except KeyError:
            continue
        if "test" in task.eval_splits:
            task.filter_eval_splits(["test"])
        return task
    if folder is not None and (folder / name).is_dir():
        return folder_task(folder / name)
    known = [task.metadata.name for task in mteb.get_tasks(exclude_superseded=False)]
    if folder is not None:
        known += [place.name for place in folder.iterdir() if place.is_dir()]
    raise InputError(f"task {name!r}: mteb has none of that name; {_near(name, known)}")


def _near(name: str, known: Sequence[str]) -> str:
    plain: dict[str, str] = {}
    for other in known:
        plain.setdefault(other.lower(), other)
    longer = [other for other in plain if other.startswith(name.lower())][:2]
    close = list(dict.fromkeys([*longer, *difflib.get_close_matches(name.lower(), plain, n=3)]))[:3]
    if close:
        return f"expected a name like {', '.join(repr(plain[other]) for other in close)}"
    return f"expected a name like {', '.join(map(repr, list(known)[:3]))}"


def _with_data(task: AbsTask, folder: Path | None, in_benchmark: bool) -> ChosenTask:
    """Loads local data, or says why the task is not run."""
    if task.data_loaded:  # a local folder that is no task of mteb's
        return ChosenTask(task=task, data="not MTEB's", note="no task of that name in mteb")
    if list(task.modalities) != ["text"]:
        reason = f"needs {' and '.join(task.modalities)}; this is an embedder of texts"
        return ChosenTask(task=task, data="none", reason=reason, in_benchmark=in_benchmark)
    if folder is None:
        return ChosenTask(task=task, data="hub", in_benchmark=in_benchmark)
    name = task.metadata.name
    place = next((p for p in (folder / name, folder / name.removesuffix(".v2")) if p.is_dir()), None)
    if place is None or isinstance(task, AbsTaskAggregate):
        return ChosenTask(task=task, data="none", reason=f"no data in {folder}", in_benchmark=in_benchmark)
    check: DataCheck = load_local(task, place)
    note = "; ".join(check.differences)
    return ChosenTask(task=task, data=check.verdict, note=note, in_benchmark=in_benchmark)
