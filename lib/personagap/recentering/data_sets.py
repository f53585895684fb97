"""Data sets that only this paper has: by name, how each is loaded from a folder."""

from personagap import datasets

LOADERS = {"relevance": lambda folder: datasets.load_relevance(folder)[0]}
