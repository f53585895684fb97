"""Shared fixtures: a tiny chat model with random weights, and a real server of it on loopback."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never reach for the Hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads of tiny models wait for each other on a busy machine

import pytest


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A folder with a tiny random Llama and a byte-level tokenizer with a ChatML template."""
    from tiny import save_model  # here, so that tests of statistics alone never load torch

    return save_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Spec of the demo model on a real ``transformers serve`` process."""
    from servers import transformers_serve

    from personagap.paths import DEMO

    with transformers_serve(DEMO / "model", tmp_path_factory.mktemp("serve")) as url:
        yield f"openai:{DEMO / 'model'}@{url}"
