"""Widgets over runs: `explore` shows all finished ones, `live` the tables of one, `form` asks for
one.
"""

from personagap.explorer.app import explore, form, live

__all__ = ["explore", "form", "live"]
