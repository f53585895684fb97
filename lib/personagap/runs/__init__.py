"""Runs of notebooks: their folders, execution and resumption, reports, the index and batches."""

from personagap.runs.folder import Run, open_run

__all__ = ["Run", "open_run"]
