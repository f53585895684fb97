"""Loaders of the data sets that only this paper uses: name → function of a folder."""

from personagap import datasets

LOADERS = {
    "personalllm": datasets.load_personalllm,
    "interactions": datasets.load_interactions,
    "evaluation": datasets.load_evaluation,
    "opinionqa": lambda folder: datasets.load_opinions(folder).people,
}
