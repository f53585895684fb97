"""Real servers agree with the same model in process, up to quantisation."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from servers import free_port, run_server, transformers_serve

from personagap import personas
from personagap.errors import UserError
from personagap.models import Sampling, gguf_file, load_model

#: A Python with llama.cpp's server, if the one that runs the tests has none.
LLAMA_PYTHON = os.environ.get("PERSONAGAP_LLAMA_PYTHON", sys.executable)
LLAMA_REASON = (
    "needs llama.cpp's server: pip install 'llama-cpp-python[server]', which builds it, or "
    "PERSONAGAP_LLAMA_PYTHON"
)
QUESTION = "What is the capital of France?"
CHATS = [personas.chat(persona, QUESTION) for persona in ("none", "assistant", "muslim", "woman")]
LETTERS = [
    [
        {
            "role": "user",
            "content": f"{question} Say the letter alone.\nA. Paris\nB. London\nC. Rome\nD. Berlin",
        }
    ]
    for question in ("Which is the capital of France?", "Which is the capital of Italy?")
]
GREEDY, SAMPLED = Sampling(temperature=0, max_tokens=12), Sampling(top_k=5, max_tokens=12)


@pytest.fixture(scope="module")
def lm(smollm2):
    return smollm2


@contextlib.contextmanager
def llama_cpp(logs):
    """Run llama.cpp's server on the quantised file; yields its base address."""
    found = subprocess.run([LLAMA_PYTHON, "-c", "import llama_cpp.server.app"], capture_output=True)
    if found.returncode:
        pytest.skip(LLAMA_REASON)
    port = free_port()
    options = {"model": gguf_file._smollm2(), "model_alias": "smollm2", "host": "127.0.0.1"}
    options |= {"port": port, "logits_all": "true", "n_threads": 1}
    command = [LLAMA_PYTHON, "-m", "llama_cpp.server"]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with run_server(command, f"http://127.0.0.1:{port}/v1/models", logs / "llama.log"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def transformers_model(lm, tmp_path_factory):
    folder = gguf_file.copy_of("smollm2").folder
    with transformers_serve(folder, tmp_path_factory.mktemp("serve"), seconds=300) as url:
        yield load_model(f"openai:{folder}@{url}")


@pytest.fixture(scope="module")
def llama_model(lm, tmp_path_factory):
    with llama_cpp(tmp_path_factory.mktemp("llama")) as url:
        yield load_model(f"openai:smollm2@{url}")


def test_transformers_serve_gives_the_same_greedy_answers(lm, transformers_model):
    about = transformers_model.describe()
    print(about)
    assert (about["system_role"], about["answer_limit"]) == ("system message", "field max_tokens")
    assert about["top_k"] == "field generation_config, kept to" and about["logprobs"] == "not given"
    greedy = [
        [answer.text for answer in one.generate(CHATS, GREEDY, range(4))]
        for one in (lm, transformers_model)
    ]
    assert greedy[0] == greedy[1]
    assert (
        len(
            {
                answer.text
                for answer in transformers_model.generate(CHATS[:1] * 6, SAMPLED, range(6))
            }
        )
        > 1
    )
    with pytest.raises(UserError, match="no log-probabilities"):
        transformers_model.choose(LETTERS, list("ABCD"))


def test_llama_cpp_gives_the_same_answer_and_similar_likelihoods(lm, llama_model):
    about = llama_model.describe()
    print(about)
    assert (about["system_role"], about["answer_limit"]) == ("system message", "field max_tokens")
    assert about["top_k"].endswith("kept to") and about["logprobs"] == "of the 20 likeliest tokens"
    drawn = [answer.text for answer in llama_model.generate(CHATS[:1] * 6, SAMPLED, range(6))]
    assert len(set(drawn)) > 1
    # llama.cpp also quantises activations: in the other chats the likeliest first words nearly tie.
    greedy = [one.generate(CHATS[2:3], GREEDY, [0])[0].text for one in (lm, llama_model)]
    assert greedy[0] == greedy[1] == "The capital of France is Paris."
    expected, served = (np.array(one.choose(LETTERS, list("ABCD"))) for one in (lm, llama_model))
    print(expected, served)
    np.testing.assert_allclose(served, expected, atol=0.3)
