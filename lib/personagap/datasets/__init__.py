"""Load data sets: judgments, PersonalLLM, OpinionQA, and the items of tasks."""

from personagap.datasets.annotations import load_histories, load_judgments, load_relevance
from personagap.datasets.opinionqa import load_opinions
from personagap.datasets.personalllm import load_evaluation, load_interactions, load_personalllm
from personagap.tasks import load
