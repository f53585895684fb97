"""Models in process: texts and log-probabilities equal those of transformers, one by one."""

import json
import weakref

import numpy as np
import pytest
import torch
from servers import completion, scripted_server
from tiny_models import (
    CHATML,
    DATED,
    DROPS_SYSTEM,
    MARKED,
    NO_SYSTEM,
    OWN_FOR_EMPTY,
    OWN_SYSTEM,
    WITH_BOS,
    save_model,
    tokenizer,
)
from transformers import AutoTokenizer, BloomConfig, Gemma3TextConfig, MambaConfig, MistralConfig

from personagap.errors import UserError
from personagap.models import Sampling, load_model, prepacked, rendering
from personagap.models.answers import decoded, tags_of
from personagap.models.decoding import pick

NOTHING = {"role": "system", "content": ""}
PERSONA = "You are a helpful assistant. I am a Muslim person."
GREEDY = Sampling(temperature=0, max_tokens=25)
CHOICES = ["A", "B", "the answer is (C)", " options", "the answer is (D)"]


@pytest.fixture(scope="module")
def lm(tiny_model_folder):
    return load_model(str(tiny_model_folder), device="cpu")


def chats(n=12):
    """Prompts of different lengths, with and without a system message."""
    asked = [
        [{"role": "user", "content": "What is the " + "capital of " * i + "the country?"}]
        for i in range(n)
    ]
    return [
        [{"role": "system", "content": PERSONA}, *chat] if i % 3 else chat
        for i, chat in enumerate(asked)
    ]


def ids_of(lm, chat):
    return lm.tokenizer(lm.render(chat), add_special_tokens=False)["input_ids"]


def own_greedy(lm, chat):
    prompt = torch.tensor([ids_of(lm, chat)])
    made = lm.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=25, do_sample=False
    )
    return lm.tokenizer.decode(made[0, prompt.shape[1] :], skip_special_tokens=True)


@torch.no_grad()
def one_by_one(lm, chat, choice):
    prompt, ending = ids_of(lm, chat), lm.tokenizer(choice, add_special_tokens=False)["input_ids"]
    log_probability = lm.model(torch.tensor([prompt + ending])).logits[0].log_softmax(-1)
    return sum(log_probability[len(prompt) - 1 + i, token].item() for i, token in enumerate(ending))


def check_against_transformers(lm, asked):
    assert [answer.text for answer in lm.generate(asked, GREEDY, range(len(asked)))] == [
        own_greedy(lm, chat) for chat in asked
    ]
    expected = [[one_by_one(lm, chat, choice) for choice in CHOICES] for chat in asked]
    np.testing.assert_allclose(np.stack(lm.choose(asked, CHOICES)), expected, atol=1e-4)


def test_texts_and_log_probabilities_equal_transformers(lm):
    check_against_transformers(lm, chats() + chats(3))


@pytest.mark.parametrize("pack", [1, 30, 10_000])
def test_choose_does_not_depend_on_packing(lm, monkeypatch, pack):
    monkeypatch.setattr(lm, "pack", pack)
    each = [CHOICES[: 1 + i % 5] for i in range(12)]
    for chat, choices, scores in zip(chats(), each, lm.choose(chats(), each), strict=True):
        np.testing.assert_allclose(
            scores, [one_by_one(lm, chat, choice) for choice in choices], atol=1e-4
        )


def test_choose_computes_a_shared_prefix_once(lm, monkeypatch):
    computed = []
    forward = lm._forward
    monkeypatch.setattr(
        lm,
        "_forward",
        lambda tokens, *rest: computed.append(tokens.numel()) or forward(tokens, *rest),
    )
    monkeypatch.setattr(lm, "pack", 64)
    examples = "How many apples are left? " * 20
    asked = [
        [{"role": "user", "content": examples + question}]
        for question in ("Two?", "Seven?", "Eaten?", "One?")
    ]
    lm.choose(asked, ["A", "B", "C", "D"])
    prompts = [ids_of(lm, chat) for chat in asked]
    assert sum(computed) < len(prompts[0]) + 4 * 11 < sum(map(len, prompts)) / 3


@pytest.mark.parametrize("depth", [0.5, 1.0])
def test_hidden_states_equal_those_of_each_prompt_alone(lm, monkeypatch, depth):
    monkeypatch.setattr(lm, "pack", 64)
    layer = round(depth * lm.model.config.num_hidden_layers)
    for chat, states in zip(chats(), lm.hidden_states(chats(), depth), strict=True):
        with torch.inference_mode():
            plain = lm.model(torch.tensor([ids_of(lm, chat)]), output_hidden_states=True)
        np.testing.assert_allclose(states, plain.hidden_states[layer][0, -1], atol=1e-4)


def test_answer_does_not_depend_on_its_batch(lm, monkeypatch):
    sampling, asked = Sampling(max_tokens=30), chats() * 2
    seeds = list(range(len(asked)))
    alone = [
        lm.generate([chat], sampling, [seed])[0].text
        for chat, seed in zip(asked, seeds, strict=True)
    ]
    assert len(set(alone)) == len(alone)
    for rows in (64, 5):
        monkeypatch.setattr(lm, "rows", rows)
        assert [answer.text for answer in lm.generate(asked, sampling, seeds)] == alone
    backwards = lm.generate(asked[::-1], sampling, seeds[::-1])
    assert [answer.text for answer in backwards][::-1] == alone


def test_repeated_prompt_is_computed_once_until_answers_differ(lm, monkeypatch):
    computed, forward = [], lm._forward
    monkeypatch.setattr(
        lm,
        "_forward",
        lambda tokens, *rest: computed.append(tokens.numel()) or forward(tokens, *rest),
    )
    (chat, *_), tokens = chats(), 20
    alike = lm.generate([chat] * 8, Sampling(top_k=1, max_tokens=tokens), range(8))
    assert len({answer.text for answer in alike}) == 1
    assert sum(computed) == len(ids_of(lm, chat)) + tokens - 1
    computed.clear()
    monkeypatch.setattr(lm, "rows", 8)  # all at once
    several = lm.generate([chat] * 8, Sampling(top_k=2, max_tokens=tokens), range(8))
    assert len({answer.text for answer in several}) > 1
    assert (
        len(ids_of(lm, chat)) + tokens - 1
        < sum(computed)
        < len(ids_of(lm, chat)) + 8 * (tokens - 1)
    )


def test_special_tokens_are_removed_except_reasoning_tags(tmp_path):
    words = AutoTokenizer.from_pretrained(save_model(tmp_path))
    words.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    for text in ("[THINK]A?[/THINK]B", "B"):
        assert decoded(words, words.encode(text + "<|im_end|>"), tags_of(words)) == text


def test_finish_reasons_with_mixed_lengths(lm, monkeypatch):
    asked = chats(20)
    long = lm.generate(asked, GREEDY, range(20))
    assert {answer.finish_reason for answer in long} == {"length"}
    assert {answer.output_tokens for answer in long} == {25}
    ends = sorted(
        {lm.tokenizer(answer.text, add_special_tokens=False)["input_ids"][6] for answer in long}
    )
    monkeypatch.setattr(lm, "_eos", torch.tensor(ends[:6]))
    monkeypatch.setattr(lm, "rows", 6)
    short = lm.generate(asked, GREEDY, range(20))
    assert {answer.finish_reason for answer in short} == {"stop", "length"}
    assert len({answer.output_tokens for answer in short}) > 3
    assert all(whole.text.startswith(part.text) for whole, part in zip(long, short, strict=True))
    assert [answer.prompt_tokens for answer in short] == [len(ids_of(lm, chat)) for chat in asked]


def test_context_window_is_respected(lm):
    room = 5
    filler = [
        {
            "role": "user",
            "content": "x"
            * (lm.context - len(ids_of(lm, [{"role": "user", "content": ""}])) - room),
        }
    ]
    (answer,) = lm.generate([filler], GREEDY, [0])
    assert (answer.finish_reason, answer.output_tokens) == ("length", room)
    filler[0]["content"] += "x" * room
    with pytest.raises(
        UserError, match="a prompt of 512 tokens does not fit the context window of 512"
    ):
        lm.generate([filler], GREEDY, [0])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError, ""),
        (RuntimeError, "[alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_halves_the_batch_size(tiny_model_folder, monkeypatch, error, message):
    lm = load_model(str(tiny_model_folder), device="cpu")
    expected = [
        lm.generate(chats(), Sampling(max_tokens=20), range(12)),
        np.stack(lm.choose(chats(), CHOICES)),
    ]
    forward, limit, failed = lm._forward, [100], []

    def forward_in_little_memory(tokens, positions, mask, cache, keep, *layer):
        # Memory of the failed attempt is freed before the next.
        assert all(cache() is None for cache in failed)
        if tokens.numel() > limit[0] or len(tokens) > 4:
            failed.append(weakref.ref(cache))
            raise error(message)
        return forward(tokens, positions, mask, cache, keep, *layer)

    monkeypatch.setattr(lm, "_forward", forward_in_little_memory)
    attempts = int(np.log2(lm.rows / 4))
    for _ in range(2):  # batches stay small
        again = lm.generate(chats(), Sampling(max_tokens=20), range(12))
        assert [answer.text for answer in again] == [answer.text for answer in expected[0]]
        assert lm.rows == 4 and len(failed) == attempts
    np.testing.assert_allclose(np.stack(lm.choose(chats(), CHOICES)), expected[1], atol=1e-5)
    limit[0] = 10
    with pytest.raises(UserError, match="does not fit the memory"):
        lm.generate(chats(), GREEDY, range(12))


def test_other_torch_errors_are_not_treated_as_out_of_memory(lm, monkeypatch):
    def broken(*_):
        raise RuntimeError("shapes differ")

    rows = lm.rows
    monkeypatch.setattr(lm, "_forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        lm.generate(chats(), GREEDY, range(12))
    assert lm.rows == rows


@pytest.mark.parametrize(
    ("top_k", "top_p", "expected"),
    [
        (0, 1.0, [0.4, 0.05, 0.3, 0.05, 0.2]),
        (3, 1.0, [4 / 9, 0, 3 / 9, 0, 2 / 9]),
        (0, 0.6, [4 / 7, 0, 3 / 7, 0, 0]),
        (1, 1.0, [1, 0, 0, 0, 0]),
    ],
)
def test_samples_follow_the_distribution(top_k, top_p, expected):
    n = 9_000
    logits = torch.tensor([0.4, 0.05, 0.3, 0.05, 0.2]).log().mul(0.5).expand(n, -1)
    drawn = pick(
        logits, (torch.arange(n) + 0.5) / n, Sampling(temperature=0.5, top_k=top_k, top_p=top_p)
    )
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / n, expected, atol=2 / n)


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (MistralConfig, {"sliding_window": 24}),
        (
            Gemma3TextConfig,
            {
                "sliding_window": 24,
                "layer_types": ["sliding_attention", "full_attention"],
                "head_dim": 16,
            },
        ),
    ],
)
def test_sliding_window_attention_is_kept(tmp_path, config, options):
    lm = load_model(str(save_model(tmp_path / "windowed", config, **options)), device="cpu")
    assert max(len(ids_of(lm, chat)) for chat in chats()) > 60
    check_against_transformers(lm, chats())


@pytest.mark.parametrize("config", [MambaConfig, BloomConfig])
def test_unsupported_architectures_are_refused(tmp_path, config):
    with pytest.raises(UserError, match="serve it"):
        load_model(str(save_model(tmp_path / "other", config)), device="cpu")


@pytest.mark.parametrize("template", [CHATML, NO_SYSTEM, DROPS_SYSTEM])
def test_persona_is_in_every_prompt(template):
    """S9: a template that rejects or drops a system message must not lose the identity."""
    chat = [{"role": "system", "content": PERSONA}, {"role": "user", "content": "Hello"}]
    prompt = rendering.render(tokenizer(template), chat)
    assert PERSONA in prompt and "Hello" in prompt and prompt.endswith("<|im_start|>assistant\n")
    assert ("<|im_start|>system" in prompt) == (template == CHATML)
    assert PERSONA in rendering.render(tokenizer(template), chat[:1])


TINY, KEPT, SAME = "You are Tiny, a small model.", "a prompt of its own", "same prompt as without"


@pytest.mark.parametrize(
    ("template", "own", "empty"),
    [
        (CHATML, None, KEPT),
        (WITH_BOS, None, KEPT),
        (MARKED, None, KEPT),
        (NO_SYSTEM, None, SAME),
        (DROPS_SYSTEM, None, SAME),
        (rendering.FORMATS["base"], None, SAME),
        (rendering.FORMATS["plain"], None, SAME),
        (None, None, SAME),
        (OWN_SYSTEM, TINY, KEPT),
        (OWN_FOR_EMPTY, TINY, SAME),
        (DATED, "Cutting Knowledge Date: May 2026", SAME),
    ],
)
def test_default_system_prompt_of_a_template_is_detected(template, own, empty):
    words = tokenizer(template)
    assert rendering.describe(words) == {
        "default_system_prompt": own,
        "empty_system_message": empty,
    }
    if template:
        question = {"role": "user", "content": "Hello"}
        without, emptied = (
            rendering.render(words, chat) for chat in ([question], [NOTHING, question])
        )
        assert "Hello" in emptied and (emptied == without) == (empty == SAME)
        assert own is None or own in without


@pytest.mark.parametrize("template", [OWN_SYSTEM, CHATML, OWN_FOR_EMPTY])
def test_default_system_prompt_of_a_server_is_detected(template):
    words = tokenizer(template)
    length = f"{len(words(TINY).input_ids)} tokens, whose text the server does not tell"

    def reply(body):
        return 200, completion(
            prompt_tokens=len(words(rendering.render(words, body["messages"])).input_ids)
        )

    with scripted_server(reply) as url:
        about = load_model(f"openai:m@{url}").describe()
    assert about["default_system_prompt"] == (length if template == OWN_SYSTEM else "unknown")


def test_unusable_templates_are_refused():
    chat = [{"role": "system", "content": PERSONA}, {"role": "user", "content": "Hello"}]
    for none in (None, ""):
        with pytest.raises(UserError, match="no chat template"):
            rendering.render(tokenizer(none), chat)
    with pytest.raises(UserError, match="drops the system text"):
        rendering.render(tokenizer("{% for m in messages %}{{ m['role'] }}{% endfor %}"), chat)
    with pytest.raises(UserError, match="refuses this chat"):
        rendering.render(tokenizer("{{ raise_exception('never') }}"), chat)


def test_bos_token_is_not_doubled(tmp_path):
    """S9: the template already contains BOS, and the tokenizer would add another."""
    folder = save_model(tmp_path / "bos", template=WITH_BOS)
    lm = load_model(str(folder), device="cpu")
    (tokens,) = lm._encode([lm.render(chats(1)[0])])
    assert (tokens == lm.tokenizer.bos_token_id).sum() == 1


def test_revision_depends_on_the_weights(tiny_model_folder, tmp_path):
    same, other = save_model(tmp_path / "same"), save_model(tmp_path / "other", seed=1)
    revisions = [
        load_model(str(folder), device="cpu").revision
        for folder in (tiny_model_folder, same, other)
    ]
    assert revisions[0] == revisions[1] != revisions[2]
    about = load_model(f"hf:{same}", device="cpu").describe()
    assert (about["model"], about["dtype"], about["device"]) == ("same", "float32", "cpu")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt2", "not a model"),
        ("/no/such/folder", "no such folder"),
        ("hf:./nowhere", "no such folder"),
        ("openai:m", "expected openai:MODEL@"),
        ("hf:nobody/nothing", "not in the local cache"),
        ("hf:nobody/nothing@main", "model nobody/nothing: not in the local cache"),
        ("hf:nobody/nothing@", "not a model"),
        ("{empty}", r"no \*.safetensors weights"),
        ("{broken}", "cannot be loaded"),
    ],
)
def test_invalid_model_is_a_one_line_error(tmp_path, spec, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match=message) as caught:
        load_model(spec.format(empty=tmp_path / "empty", broken=tmp_path / "broken"))
    assert "\n" not in str(caught.value)


def test_damaged_or_incomplete_folder_is_a_one_line_error(tmp_path):
    """Missing weights would silently be initialised at random."""
    folder = save_model(tmp_path / "damaged")
    config, weights = folder / "config.json", folder / "model.safetensors"
    whole, described = weights.read_bytes(), config.read_text()
    for damaged in (b"", whole[:4], whole[:-9]):
        weights.write_bytes(damaged)
        with pytest.raises(
            UserError, match=f"model damaged: cannot be loaded from {folder}"
        ) as caught:
            load_model(str(folder), device="cpu")
        assert "\n" not in str(caught.value)
    weights.write_bytes(whole)
    for size, message in (
        (3, "lacks 9 of its weights, such as model.layers.2"),
        ("two", "num_hidden_layers"),
    ):
        config.write_text(json.dumps(json.loads(described) | {"num_hidden_layers": size}))
        with pytest.raises(UserError, match=message):
            load_model(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "device 'abacus'"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"dtype": "int3"}, "dtype"),
    ],
)
def test_invalid_device_or_dtype_is_refused(tiny_model_folder, options, message):
    with pytest.raises(UserError, match=message):
        load_model(str(tiny_model_folder), **options)


def test_bfloat16_equals_float32_up_to_rounding(lm, tiny_model_folder):
    coarse = load_model(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    assert coarse.describe()["dtype"] == "bfloat16"
    # Each has its own cache key.
    assert coarse.commit == lm.commit == lm.revision and coarse.revision != lm.revision
    np.testing.assert_allclose(
        np.stack(coarse.choose(chats(), CHOICES)), np.stack(lm.choose(chats(), CHOICES)), atol=1
    )
    assert {answer.output_tokens for answer in coarse.generate(chats(), GREEDY, range(12))} == {25}


def test_empty_request_list_gives_no_answers(lm):
    assert lm.generate([], GREEDY, []) == lm.choose([], CHOICES) == []


def test_empty_choice_is_refused(lm):
    with pytest.raises(UserError, match="empty"):
        lm.choose(chats(1), ["A", ""])


def test_prepacked_weights_give_the_same_results(lm, tiny_model_folder, monkeypatch):
    monkeypatch.setattr(prepacked, "MIN_WEIGHTS", 0)
    packed = load_model(str(tiny_model_folder), device="cpu")
    # The tiny model is below the default threshold.
    assert not any(isinstance(layer, prepacked.PrepackedLinear) for layer in lm.model.modules())
    layers = [
        layer for layer in packed.model.modules() if isinstance(layer, prepacked.PrepackedLinear)
    ]
    assert layers
    np.testing.assert_allclose(
        packed.choose(chats(), CHOICES), lm.choose(chats(), CHOICES), atol=1e-4
    )
    assert all(layer.packed is not None for layer in layers)
    seeds = range(12)
    sampling = Sampling(max_tokens=25)
    texts = [
        [answer.text for answer in one.generate(chats(), sampling, seeds)] for one in (packed, lm)
    ]
    assert texts[0] == texts[1]
    # Packed layers still support gradients
    layers[0](torch.ones(1, layers[0].in_features)).sum().backward()
    assert layers[0].weight.grad is not None


def test_weights_too_large_to_copy_are_not_packed(tiny_model_folder, monkeypatch):
    monkeypatch.setattr(prepacked, "MIN_WEIGHTS", 0)
    monkeypatch.setattr(prepacked, "MAX_BYTES", 1000)
    layers = load_model(str(tiny_model_folder), device="cpu").model.modules()
    assert not any(isinstance(layer, prepacked.PrepackedLinear) for layer in layers)
