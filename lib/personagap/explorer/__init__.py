"""Widgets over finished runs: `explore` shows all of them, `live` the tables of one."""

from personagap.explorer.app import explore, live

__all__ = ["explore", "live"]
