# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The study of a sweep: one SQLite file, in Optuna's format, that any number of workers share.

Two kinds of file locks keep order, across processes and across machines on one file system:

- `<sweep>/study.lock` is held around every access to the study. SQLite alone would make a busy
  writer fail where it should wait, and to claim a trial takes several statements.
- `<sweep>/trials/<number>/worker.lock` is held as long as somebody works on the trial. The training
  process inherits it. So a trial whose lock is free has nobody, whatever killed them and however
  recently: the next worker goes on with it, in its directory. No clock and no heartbeat is asked.
"""

import contextlib
import dataclasses
import fcntl
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from jvlm import config as config_lib
from jvlm.errors import UserError
from jvlm.sweep.space import Point, Range, to_texts

NAME = "jvlm"
PRUNERS = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "halving": optuna.pruners.SuccessiveHalvingPruner,
}
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclasses.dataclass
class Definition:
    """What a sweep is, as its study records it; the points of a grid are trials from the start.

    Attributes:
      config: config file and argument, as for `jvlm train`.
      overrides: of all trials, 'key=value'.
      metric: name in report.json.
      mode: 'max' or 'min'.
      prune: key of PRUNERS.
      command: what trains, in place of `jvlm train`; None for that.
      ranges: what TPE draws from, as Range's fields; empty for a sweep of given points.
      trials: how many TPE draws.
      seed: of the draws.
      resolved: the config itself, so that all trials come from the same.
    """

    config: str
    overrides: list[str]
    metric: str
    mode: str
    prune: str = "none"
    command: list[str] | None = None
    ranges: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    trials: int = 0
    seed: int = 0
    resolved: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Trial:
    """A claimed trial.

    Attributes:
      handle: Optuna's.
      number: of its directory.
      folder: that run directory.
      texts: its overrides, {key: text}.
      reported: steps whose evaluation the study has.
      lock: open file; closing it gives the trial back.
    """

    handle: optuna.Trial
    number: int
    folder: Path
    texts: dict[str, str]
    reported: set[int]
    lock: TextIO


class Study:
    """A sweep's trials.

    Args:
      workdir: of the sweep.
      definition: what is swept; None goes on with what the study has recorded.

    Raises:
      UserError: no study and no definition; a study of another config or metric.
    """

    def __init__(self, workdir: Path, definition: Definition | None = None):
        self.workdir = workdir
        if definition is None and not (workdir / "study.db").exists():
            raise UserError(f"{workdir} holds no sweep: give --config")
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{workdir}: {error.strerror}") from None
        with self.locked():
            self._study = self._open(definition)

    def _open(self, definition: Definition | None) -> optuna.Study:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{self.workdir.resolve() / 'study.db'}",
            # Others may read without our lock; nothing stays open between two accesses.
            engine_kwargs={"connect_args": {"timeout": 60}, "poolclass": NullPool},
        )
        names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
        recorded = None
        if NAME in names:
            study = optuna.load_study(study_name=NAME, storage=storage)
            recorded = Definition(**study.user_attrs["definition"])
        if definition is None:
            if recorded is None:
                raise UserError(f"{self.workdir} holds no sweep: give --config")
            definition = recorded
        self.definition = definition
        if recorded:
            self._check_config(recorded.resolved, definition.resolved)
        trials = []
        if recorded and (recorded.metric, recorded.mode) != (definition.metric, definition.mode):
            trials = study.get_trials()
            if any(trial.values for trial in trials):
                raise UserError(
                    f"{self.workdir} holds results by {recorded.metric} ({recorded.mode}): give "
                    "that --metric and --mode, or another --workdir"
                )
            for trial in trials:
                trial.intermediate_values = {}
            optuna.delete_study(study_name=NAME, storage=storage)
            recorded = None
        if recorded is None:
            study = optuna.create_study(
                storage=storage,
                study_name=NAME,
                direction={"max": "maximize", "min": "minimize"}[definition.mode],
            )
            study.add_trials(trials)  # Under the same numbers.
        study.set_user_attr("definition", dataclasses.asdict(definition))
        study.pruner = PRUNERS[definition.prune]()
        return study

    def _check_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Trials compare only if they come from one config."""
        differing = config_lib.differing_keys(old, new)
        differing += ["steps"] if old.get("steps") != new.get("steps") else []
        if differing:
            raise UserError(
                f"{self.workdir} holds trials of another config; {', '.join(differing)} differ: "
                "take another --workdir"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else reads or writes the study meanwhile."""
        try:
            with _open_lock(self.workdir / "study.lock") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # SQLAlchemy has the reason in its first line; Optuna in what it was raised from.
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(f"{self.workdir}: the study cannot be used: {reason}") from None

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """The trials, but for those that were done again."""
        with self.locked():
            return latest(self._study.get_trials(deepcopy=False))

    def add(self, points: Sequence[Point]) -> int:
        """Adds the points that are not there yet as trials to come; returns how many."""
        numbers: dict[str, list] = {}  # So that dashboards see the parameters too.
        for point in points:
            for key, value in point.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    numbers.setdefault(key, []).append(value)
        distributions = {
            key: (
                optuna.distributions.IntDistribution
                if all(isinstance(value, int) for value in values)
                else optuna.distributions.FloatDistribution
            )(min(values), max(values))
            for key, values in numbers.items()
        }
        added = 0
        with self.locked():
            known = [_texts(trial) for trial in self._study.get_trials(deepcopy=False)]
            for point in points:
                texts = to_texts(point)
                if texts in known:
                    continue
                keys = [key for key in distributions if key in point]
                trial = optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params={key: point[key] for key in keys},
                    distributions={key: distributions[key] for key in keys},
                    user_attrs={"overrides": texts},
                )
                try:
                    self._study.add_trial(trial)
                except ValueError as error:
                    raise self._incompatible(error) from None
                added += 1
        return added

    def retry(self) -> int:
        """Has failed trials done again, in their directories; returns how many."""
        with self.locked():
            failed = [t for t in latest(self._study.get_trials()) if t.state == TrialState.FAIL]
            for trial in failed:
                self._study.add_trial(
                    optuna.trial.create_trial(
                        state=TrialState.WAITING,
                        params=trial.params,
                        distributions=trial.distributions,
                        user_attrs={
                            "overrides": trial.user_attrs["overrides"],
                            "directory": directory(trial),
                        },
                    )
                )
        return len(failed)

    def claim(self) -> Trial | None:
        """A trial to work on: one that its worker has left, the next to come, or a new draw."""
        with self.locked():
            trials = self._study.get_trials(deepcopy=False)
            # Workers draw differently, and the same worker too after a restart.
            seed = self.definition.seed + len(trials)
            self._study.sampler = optuna.samplers.TPESampler(seed=seed)
            for trial in trials:
                if trial.state == TrialState.RUNNING and (lock := self._take(directory(trial))):
                    # Optuna's own way of asking has no name for a trial that runs already.
                    return self._trial(optuna.Trial(self._study, trial._trial_id), lock)
            is_waiting = any(trial.state == TrialState.WAITING for trial in trials)
            if not is_waiting and not self._draws_left(trials):
                return None
            handle = self._study.ask()
            lock = self._take(directory(handle))
            if lock is None:
                raise UserError(f"{self._folder(directory(handle))}: another sweep works there")
            return self._trial(handle, lock)

    def count(self) -> tuple[int, int]:
        """Trials that have ended, and those that have not; draws to come are among these."""
        trials = self.trials()
        ended = sum(trial.state.is_finished() for trial in trials)
        return ended, len(trials) - ended + self._draws_left(trials)

    def report(self, trial: Trial, step: int, value: float) -> bool:
        """Records an evaluation of a running trial; returns whether the trial is hopeless."""
        with self.locked():
            trial.handle.report(value, step)
            trial.reported.add(step)
            return trial.handle.should_prune()

    def complete(self, trial: Trial, metrics: Mapping[str, float], seconds: float) -> None:
        """Ends a trial with the metrics of its report.

        Raises:
          KeyError: the sweep's metric is not one of them; the trial then stays unfinished.
        """
        value = metrics[self.definition.metric]
        if not math.isfinite(value):
            self.fail(trial, f"{self.definition.metric} is {value}", seconds)
            return
        with self.locked():
            trial.handle.set_user_attr("metrics", dict(metrics))
            self._end(trial, seconds, TrialState.COMPLETE, value)

    def prune(self, trial: Trial, seconds: float) -> None:
        """Ends a trial that was stopped as hopeless."""
        with self.locked():
            self._end(trial, seconds, TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str, seconds: float) -> None:
        """Ends a trial that has no result."""
        with self.locked():
            trial.handle.set_user_attr("reason", reason)
            self._end(trial, seconds, TrialState.FAIL)

    def _end(self, trial: Trial, seconds: float, state: TrialState, value=None) -> None:
        trial.handle.set_user_attr("seconds", round(seconds, 2))
        self._study.tell(trial.handle, value, state)
        trial.lock.close()

    def _incompatible(self, error: ValueError) -> UserError:
        return UserError(
            f"{self.workdir} has trials of other kinds of values ({error}): take another --workdir"
        )

    def _draws_left(self, trials: Sequence[optuna.trial.FrozenTrial]) -> int:
        return max(self.definition.trials - len(latest(trials)), 0) if self.definition.ranges else 0

    def _folder(self, number: int) -> Path:
        return self.workdir / "trials" / str(number)

    def _take(self, number: int) -> TextIO | None:
        """The lock of a trial, or None where somebody holds it."""
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        file = _open_lock(folder / "worker.lock")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def _trial(self, handle: optuna.Trial, lock: TextIO) -> Trial:
        texts = handle.user_attrs.get("overrides")
        if texts is None:
            # A draw; after a kill in the middle of it, what it lacks is drawn now.
            ranges = {key: Range(**_tuples(r)) for key, r in self.definition.ranges.items()}
            try:
                point = {key: range_.suggest(handle, key) for key, range_ in ranges.items()}
            except ValueError as error:
                lock.close()
                raise self._incompatible(error) from None
            texts = to_texts(point)
            handle.set_user_attr("overrides", texts)
        frozen = self._study.get_trials(deepcopy=False)[handle.number]
        reported = set(frozen.intermediate_values)
        number = directory(handle)
        return Trial(handle, number, self._folder(number), texts, reported, lock)


def directory(trial: Any) -> int:
    """The number of a trial's directory: its own, or that of the trial which it does again."""
    return trial.user_attrs.get("directory", trial.number)


def latest(trials: Sequence[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
    """The trials without those that were done again."""
    return list({directory(trial): trial for trial in trials}.values())


def _open_lock(path: Path) -> TextIO:
    return path.open("a")


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {**fields, "choices": tuple(fields["choices"])}


def _texts(trial: optuna.trial.FrozenTrial) -> dict[str, str]:
    return trial.user_attrs.get("overrides", {})
