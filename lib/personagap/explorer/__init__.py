"""Widgets: `explore` shows all finished runs, `live` the tables of one, `form` starts a run."""

from personagap.explorer.app import explore, form, live

__all__ = ["explore", "form", "live"]
