"""Loaders of the data sets that only this paper uses: name → function of a folder."""

from personagap import datasets

LOADERS = {"relevance": lambda folder: datasets.load_relevance(folder)[0]}
