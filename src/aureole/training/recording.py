"""What every record of a run says, whatever the run measured."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Literal

from aureole.core.config import to_values
from aureole.core.records import DataRecord, Record, environment, git_commit
from aureole.data import FewLabelsSplits, Splits
from aureole.data.scans import ScanSplits
from aureole.training.config import Engine
from aureole.training.evaluation.evaluate import describe_device


class Stopwatch:
    """When a run began, and how long it has taken."""

    def __init__(self) -> None:
        self.started, self._begin = datetime.now(UTC), time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._begin


def recorded(
    kind: Literal["training", "diversity", "refinement"],
    config: Any,
    splits: Splits | ScanSplits,
    watch: Stopwatch,
    *,
    engine: Engine,
    num_test: int,
    **measured: Any,
) -> Record:
    """Return the record of a run that ends now.

    Args:
        kind: of the record.
        config: of the run, with a title.
        splits: training and validation images, or scans.
        watch: since the run began.
        engine: where it ran.
        num_test: test images or scans that were looked at.
        measured: the other fields of the record.
    """
    commit, dirty = git_commit()
    return Record(
        kind=kind,
        label=config.title,
        config=to_values(config),
        versions=environment(),
        commit=commit,
        dirty=dirty,
        device=describe_device(engine.accelerator, engine.devices),
        data=DataRecord(
            name=splits.train.name,
            fingerprint=splits.train.fingerprint,
            num_train=len(splits.train),
            num_validation=len(splits.validation) if splits.validation else 0,
            num_test=num_test,
            labelled_index=list(splits.labelled_index) if isinstance(splits, FewLabelsSplits) else [],
            labelled_patients=list(splits.train.labelled_patients) if isinstance(splits, ScanSplits) else [],
        ),
        started=watch.started.isoformat(timespec="seconds"),
        wall_seconds=watch.seconds,
        **measured,
    )
