"""Data sets that only this paper has: by name, how each is loaded from a folder."""

from personagap import datasets

LOADERS = {
    "personalllm": datasets.load_personalllm,
    "interactions": datasets.load_interactions,
    "evaluation": datasets.load_evaluation,
    "opinionqa": lambda folder: datasets.load_opinions(folder).people,
}
