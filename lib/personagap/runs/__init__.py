"""Runs: the folder a notebook writes to, execution and resumption, reports, the index, batches."""

from personagap.runs.folder import Run, open_run

__all__ = ["Run", "open_run"]
