"""Dialects of the OpenAI API: what a server supports is probed once, recorded and used
consistently.
"""

import datetime
import json
import random

import httpx
import numpy as np
import pytest
from servers import completion, scripted_server
from tiny_models import tokenizer

from personagap.errors import UserError
from personagap.models import Sampling, endpoints, load_model, rendering, replies
from personagap.models.answers import parse_answer
from personagap.models.streamed import assembled

CHAT = [{"role": "system", "content": "I am a man."}, {"role": "user", "content": "What is it?"}]
#: States the date as Llama-3.1's template does, or in a concatenated format.
DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- "
    "endif %}"
    "Today's date: {{ date_string }}\n{% for m in messages %}{{ m['role'] }}: {{ m['content'] "
    "}}\n{% endfor %}"
)
ASSEMBLED = (
    "{% set dash = '-' %}{{ strftime_now('%Y' ~ dash ~ '%m' ~ dash ~ '%-d') }} {{ "
    "messages[-1]['content'] }}"
    "{{ 'now' if strftime_now is defined }}"
)


class Model:
    """Draws words as a language model would, and refuses or disregards the fields it is told to."""

    def __init__(
        self, refuses=(), disregards=(), words=50, thinks=False, temperatures=None, breaks=False
    ):
        self.refuses, self.disregards, self.temperatures = (
            set(refuses),
            set(disregards),
            temperatures,
        )
        self.words, self.thinks, self.breaks, self.bodies = words, thinks, breaks, []

    def reply(self, body):
        self.bodies.append(body)
        if refused := self.refuses & set(body):
            return 400, {
                "error": {
                    "message": f"Unsupported parameter: {refused}",
                    "code": "unsupported_parameter",
                }
            }
        if self.breaks and body.get("top_k") == -1:  # as llama.cpp's Python server does
            return 500, {"error": {"message": "top_k should be greater than or equal to 0"}}
        if self.temperatures and body.get("temperature", 1) not in self.temperatures:
            return 400, {
                "error": {
                    "message": "temperature does not support this value",
                    "param": "temperature",
                }
            }
        heard = {name: value for name, value in body.items() if name not in self.disregards}
        greedy = heard.get("temperature") == 0 or heard.get("top_k") == 1
        word = "one" if greedy else f"word{random.Random(heard.get('seed')).randrange(self.words)}"
        length = heard.get("max_tokens") or heard.get("max_completion_tokens")
        text = f"<think>{word if length > 1 else ''}" if self.thinks else word
        dated = len(heard.get("chat_template_kwargs", {}).get("date_string", "").split())
        return 200, completion(
            text, sum(len(m["content"].split()) for m in body["messages"]) + dated
        )


#: A fake server, its detected dialect, and the fields of its requests or the refused sampling.
PLAIN = Sampling(top_k=0, max_tokens=7)
GREEDY = Sampling(temperature=0, max_tokens=7)
DEAF = "taken in the field generation_config, but not kept to"
DIALECTS = {
    "all of it": (
        Model(),
        {
            "answer_limit": "field max_tokens",
            "top_k": "field top_k, kept to",
            "seed": "taken, and repeats its answer",
        },
        {"max_tokens": 7, "top_k": -1, "top_p": 1, "temperature": 1, "seed": 3},
    ),
    "newer limit": (
        Model(["max_tokens"]),
        {"answer_limit": "field max_completion_tokens"},
        {"max_tokens": None, "max_completion_tokens": 7},
    ),
    "fixed temperature": (
        Model(["top_p"], temperatures=[1]),
        {"temperature": "fixed at 1", "top_p": "refused"},
        {"temperature": 1, "top_p": None},
    ),
    "no temperature": (
        Model(["temperature"]),
        {"temperature": "fixed at 1"},
        {"temperature": None, "top_p": 1},
    ),
    "no greedy": (
        Model(temperatures=[0.5, 1]),
        {"temperature": "taken, but for 0"},
        {"temperature": 1},
    ),
    "no seed": (
        Model(["seed"]),
        {"seed": "refused: the same request may be answered differently"},
        {"seed": None},
    ),
    "deaf to seeds": (
        Model(disregards=["seed"]),
        {"seed": "taken, but does not repeat its answer"},
        {"seed": 3},
    ),
    "deaf to temperature": (
        Model(disregards=["temperature"]),
        {"temperature": "taken; at 0 the answers differ all the same"},
        {},
    ),
    "broken by -1": (
        Model(breaks=True),
        {"top_k": "field top_k, 0 for all, kept to"},
        {"top_k": 0},
    ),
    "no top_k": (Model(["top_k", "generation_config"]), {"top_k": "refused"}, {"top_k": None}),
    "deaf to top_k": (Model(disregards=["top_k"]), {"top_k": DEAF}, {"top_k": None}),
    "one word": (
        Model(words=1),
        {"top_k": "field top_k, taken; no answer ever varied, to try it on"},
        {"top_k": -1},
    ),
    "thinks": (Model(thinks=True), {"top_k": "field top_k, kept to"}, {}),
    "thinks, deaf to top_k": (Model(thinks=True, disregards=["top_k"]), {"top_k": DEAF}, {}),
    "no date": (
        Model(["chat_template_kwargs"]),
        {"date": "the server's, if its chat template states one"},
        {"chat_template_kwargs": None},
    ),
    "date": (
        Model(),
        {"date": "2026-01-01, wherever asked"},
        {"chat_template_kwargs": {"date_string": "01 Jan 2026"}},
    ),
}
REFUSED = {
    "fixed temperature": (GREEDY, r"temperature is fixed at 1, and this asks for 0$"),
    "no temperature": (
        Sampling(temperature=0.8, top_k=0),
        r"temperature is fixed at 1, and this asks for 0.8$",
    ),
    "no greedy": (GREEDY, "temperature is taken, but for 0, and"),
    "no top_k": (Sampling(), "top_k is refused, and this asks for 10; ask with top_k=0"),
    "deaf to top_k": (
        Sampling(),
        "top_k is taken in the field generation_config, but not kept to, and",
    ),
    "thinks, deaf to top_k": (Sampling(), "not kept to"),
    "fixed temperature, no top_p": (
        Sampling(top_k=0, top_p=0.9),
        "top_p is refused, and this asks for 0.9",
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialect_is_detected_recorded_and_reused(name):
    server, found, sent = DIALECTS[name]
    with scripted_server(server.reply) as url:
        lm = load_model(f"openai:m@{url}")
        about = lm.describe()
        lm.generate([CHAT], PLAIN, [3])
        assert found.items() <= about.items()
        assert {field: server.bodies[-1].get(field) for field in sent} == sent
        for case, (sampling, line) in REFUSED.items():
            if case.partition(", no")[0] == name:
                before = len(server.bodies)
                with pytest.raises(UserError, match=line):
                    lm.generate([CHAT], sampling, [3])
                assert len(server.bodies) == before  # no request is sent with other sampling


def test_each_feature_is_probed_once():
    server = Model()
    with scripted_server(server.reply) as url:
        lm = load_model(f"openai:m@{url}")
        tried = len(server.bodies)
        lm.generate([CHAT] * 20, Sampling(), range(20))
        assert tried < 40 and len(server.bodies) == tried + 20


@pytest.mark.parametrize(
    ("content", "text", "reasoning", "outcome"),
    [
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab", "", ""),
        (["a", "b"], "ab", "", ""),
        (
            [{"text": "a"}, {"type": "output_text", "text": "b"}, {"type": "image_url"}],
            "ab",
            "",
            "",
        ),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "A?"}]}, {"text": "B"}],
            "B",
            "A?",
            "",
        ),
        ([{"type": "reasoning", "text": "A?"}, {"type": "text", "text": "B"}], "B", "A?", ""),
        ([{"type": "refusal", "refusal": "No."}], "No.", "", "refused"),
        ([{"type": "reasoning_text", "text": "A?"}, {"text": "B"}], "B", "A?", ""),
        ([{"text": "A?", "thought": True}, {"text": "B"}], "B", "A?", ""),
        ([{"type": "redacted_thinking", "data": "A?"}, {"text": "B"}], "B", "", ""),
        ({"type": "text", "text": "a"}, "a", "", ""),
        ([{"type": "thought", "text": "A?"}, {"text": {"value": "B"}}], "B", "A?", ""),
        ({"role": "model", "parts": [{"text": "a"}]}, "a", "", ""),
        ([], "", "", ""),
        (None, "", "", ""),
    ],
)
def test_content_parts_are_joined(content, text, reasoning, outcome):
    answer = replies.generation(completion(message={"role": "assistant", "content": content}), 0.0)
    assert (answer.text, answer.reasoning, answer.outcome) == (text, reasoning, outcome)


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "A?"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "A?", "index": 0}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "A?"}]},
        {"thinking": "A?"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "A?", "signature": "x"}]},
        {"reasoning": "A?", "reasoning_details": [{"type": "reasoning.text", "text": "A?"}]},
    ],
)
def test_reasoning_is_read_from_several_field_names(fields):
    reply = completion(message={"role": "assistant", "content": "B", **fields})
    answer = replies.generation(reply, 0.0)
    assert (answer.text, answer.reasoning, answer.outcome) == ("B", "A?", "")


def test_a_finish_reason_may_be_an_object():
    reply = completion("B", finish_reason={"type": "length"})
    assert replies.generation(reply, 0.0).finish_reason == "length"


EVENTS = [
    {"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    {"choices": [{"delta": {"reasoning_content": "Hm"}, "finish_reason": None}]},
    {"choices": [{"delta": {"content": "Hé"}, "finish_reason": None}]},
    {"choices": [{"delta": {"content": "llo"}, "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
]


def stream(events):
    lines = [f"data: {json.dumps(event)}" for event in events]
    return "\r\n\r\n".join([": ping", *lines, "data: [DONE]"]).encode()


def test_an_answer_that_is_streamed_unasked_is_put_together():
    with scripted_server(lambda body: (200, stream(EVENTS))) as url:
        lm = load_model(f"openai:m@{url}")
        (answer,) = lm.generate([CHAT], Sampling(max_tokens=5), [0])
    assert answer[:4] == ("Héllo", "length", 3, 2) and answer.reasoning == "Hm"
    assert replies.error_in(assembled(stream([{"error": {"code": 400}}]).decode())) == {"code": 400}
    with pytest.raises(replies.Failure, match="broken off"):
        replies.generation(assembled(stream(EVENTS[:3]).decode()), 0.0)


def test_an_answer_in_another_encoding_is_read_as_it_says():
    content = json.dumps(completion("Hé"), ensure_ascii=False).encode("latin-1")
    told = httpx.Response(200, content=content, headers={"content-type": "x; charset=latin-1"})
    assert endpoints.decoded(told) == completion("Hé")


@pytest.mark.parametrize(
    ("reason", "outcome"),
    {
        **dict.fromkeys(["stop", "eos", "eos_token", "stop_sequence", "STOP"], "answered"),
        **dict.fromkeys(["COMPLETE", "end_turn", "tool_calls", ""], "answered"),
        **dict.fromkeys(["length", "MAX_TOKENS", "model_length", "max_output_tokens"], "truncated"),
        **dict.fromkeys(["FinishReason.MAX_TOKENS", "model_context_window_exceeded"], "truncated"),
        **dict.fromkeys(["SAFETY", "recitation", "content_filter: SAFETY", "sensitive"], "blocked"),
        **dict.fromkeys(["guardrail_intervened", "content_filtered", "IMAGE_SAFETY"], "blocked"),
        **dict.fromkeys(["MaxTokens", "limit", "max_length", "repetition"], "truncated"),
        "refusal": "refused",
        **dict.fromkeys(["error", "ABORT", "canceled", "network_error", "timeout"], "failed"),
        "insufficient_system_resource": "failed",
    }.items(),
)  # fmt: skip
def test_finish_reasons_of_several_servers_are_mapped(reason, outcome):
    reply = completion("B", finish_reason=reason)
    if outcome == "failed":
        with pytest.raises(replies.Failure):
            replies.generation(reply, 0.0)
    else:
        answer = parse_answer(replies.generation(reply, 0.0))
        assert (answer.outcome, answer.finish_reason) == (outcome, reason or "stop")


#: Status and reply; the equivalent HTTP status, and whether a content filter blocked it.
ERRORS = [
    (400, {"error": {"code": "content_filter", "message": "filtered"}}, 400, True),
    (400, {"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}, 400, True),
    (400, {"error": {"code": "data_inspection_failed", "message": "Inappropriate."}}, 400, True),
    (
        400,
        {"error": {"message": "Content Exists Risk", "code": "invalid_request_error"}},
        400,
        True,
    ),
    (403, {"error": {"code": 403, "metadata": {"provider_name": "OpenAI Moderation"}}}, 403, True),
    (400, {"error": {"code": "1301", "message": "输入可能包含敏感内容"}}, 400, True),
    (
        400,
        {
            "error": {
                "message": "Invalid prompt: your prompt was flagged as potentially violating our "
                "usage policy.",
                "code": "invalid_prompt",
            }
        },
        400,
        True,
    ),
    (400, {"error": {"message": "Rejected as a result of our safety system."}}, 400, True),
    (403, {"error": {"code": 403, "message": "Input was flagged"}}, 403, True),
    (200, {"error": {"code": "content_filter"}}, 400, True),
    (200, {"choices": [], "prompt_feedback": {"block_reason": "SAFETY"}}, 400, True),
    # Errors of the request or the server are not content filters.
    (400, {"error": {"message": "max_tokens is too large"}}, 400, False),
    (422, {"detail": [{"input": "What is a content policy?"}]}, 422, False),
    (403, {"error": {"message": "Your account was flagged"}}, 403, False),
    (500, {"error": {"message": "the content filter is down"}}, 500, False),
    (429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], 429, False),
    (200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, 429, False),
    (200, {"detail": "The model is overloaded"}, 503, False),
    (200, {"error": "rate limited"}, 429, False),
    (200, {"choices": [{"error": {"code": 502, "message": "away"}}]}, 502, False),
]


@pytest.mark.parametrize(("status", "reply", "meant", "filtered"), ERRORS)
def test_server_errors_and_content_filters_are_recognised(status, reply, meant, filtered):
    assert replies.error_in(reply)
    failure = replies.failure(status, json.dumps(reply, ensure_ascii=False), {})
    assert (failure.status, failure.filtered) == (meant, filtered)
    assert failure.passes == (meant in (429, 500, 502, 503))


@pytest.mark.parametrize("count", ["5", 10**30, -1, 1.5, float("nan"), {"all": 5}, [5], True])
def test_invalid_token_counts_are_unknown(count):
    answer = replies.generation(
        completion() | {"usage": {"prompt_tokens": count, "completion_tokens": 3}}, 0.0
    )
    assert (answer.prompt_tokens, answer.output_tokens) == (None, 3)


def listed(**probabilities):
    return [(token, np.log(p)) for token, p in probabilities.items()]


def test_tokens_that_read_as_the_same_choice_are_summed():
    tokens = [
        ("A", np.log(0.3)),
        (" A", np.log(0.2)),
        ("A", np.log(0.1)),
        ("B", np.log(0.25)),
        ("\nB ", np.log(0.05)),
    ]
    weights, unknown = replies.read_choices(tokens, ["A", "B"])
    np.testing.assert_allclose(np.exp(weights), [0.6, 0.3])
    assert unknown is None
    both, _ = replies.read_choices(tokens, ["A", " A"])  # different strings are different choices
    np.testing.assert_allclose(np.exp(both), [0.4, 0.2])


def test_token_strings_are_decoded():
    tops = [
        {"token": "ĠA", "logprob": -1.0, "bytes": None},
        {"token": "▁A", "logprob": -2.0},
        {"token": "?", "logprob": -3.0, "bytes": [32, 65]},
        {"token": "\\xe2", "logprob": -4.0, "bytes": [226]},
        {"token": "B", "logprob": -5.0, "bytes": []},
        {"token": "C", "logprob": float("nan")},
    ]
    reply = completion("A", logprobs={"content": [{**tops[0], "top_logprobs": tops}]})
    assert replies.alternatives(reply) == [
        (" A", -1.0),
        (" A", -2.0),
        (" A", -3.0),
        ("\\xe2", -4.0),
        ("B", -5.0),
    ]
    plain = {"tokens": ["A"], "top_logprobs": [{"A": -1.0, "▁B": -2.0}]}
    assert replies.alternatives(completion("A", logprobs=plain)) == [("A", -1.0), (" B", -2.0)]
    mapping = {"content": [{"token": "A", "top_logprobs": {"A": -1.0, "▁B": -2.0}}]}
    assert replies.alternatives(completion("A", logprobs=mapping)) == [("A", -1.0), (" B", -2.0)]
    assert replies.alternatives(completion("A")) == []


def test_unlisted_choice_has_an_upper_bound():
    """It is at most as likely as the last listed token, and as all unlisted ones together."""
    by_last, unknown = replies.read_choices(listed(A=0.7, B=0.2, x=0.001), ["A", "B", "C", "D"])
    np.testing.assert_allclose(np.exp(by_last), [0.7, 0.2, 0.001, 0.001])
    assert unknown is None  # shares are exact to within 0.2 points
    by_rest, unknown = replies.read_choices(listed(A=0.7, x=0.2, B=0.0999), ["A", "C", "B"])
    np.testing.assert_allclose(np.exp(by_rest), [0.7, 0.0001, 0.0999])
    assert unknown is None
    _, unknown = replies.read_choices(listed(x=0.9, A=0.002, y=0.001), ["A", "C"])
    assert unknown == "C"  # may have a third of the choices' probability
    _, unknown = replies.read_choices(listed(x=0.9, y=0.05), ["A", "C"])
    assert unknown == "A"
    # OpenAI's placeholder for "very unlikely".
    none, unknown = replies.read_choices([("A", 0.0), ("B", -9999.0)], ["A", "B"])
    assert none.tolist() == [0.0, -9999.0] and unknown is None


def test_choice_shares_from_truncated_lists_are_within_the_promised_error():
    """Truncated lists of the likeliest tokens against the whole distribution."""
    draw, choices, n_known = np.random.default_rng(0), list("ABCD"), 0
    for _ in range(300):
        p = draw.dirichlet(np.r_[draw.choice([0.02, 0.3, 5.0], 4), np.full(60, 0.05)])
        tokens = sorted(
            zip([*choices, *map(str, range(60))], np.log(p), strict=True), key=lambda pair: -pair[1]
        )[:20]
        weights, unknown = replies.read_choices(tokens, choices)
        if unknown is None:
            n_known += 1
            shares = np.exp(weights) / np.exp(weights).sum()
            assert np.abs(shares - p[:4] / p[:4].sum()).max() <= replies.UNKNOWN + 1e-9
    assert 50 < n_known < 300


def test_choose_sums_tokens_and_bounds_unlisted_ones(isolated_cache):
    def reply(body):
        tops = [
            {"token": t, "logprob": float(np.log(p))}
            for t, p in [("A", 0.6), (" A", 0.2), ("B", 0.19), ("x", 1e-4)]
        ]
        return 200, completion("A", logprobs={"content": [{**tops[0], "top_logprobs": tops}]})

    with scripted_server(
        lambda body: reply(body) if body.get("logprobs") else Model().reply(body)
    ) as url:
        lm = load_model(f"openai:m@{url}")
        assert lm.describe()["logprobs"] == "of the 20 likeliest tokens"
        np.testing.assert_allclose(np.exp(lm.choose([CHAT], ["A", "B", "C"])), [[0.8, 0.19, 1e-4]])


def test_fewer_alternatives_than_requested_are_used():
    def reply(body):
        if body.get("top_logprobs", 0) > 5:
            return 400, {"error": {"message": "top_logprobs must be at most 5"}}
        tops = [{"token": letter, "logprob": float(np.log(0.2))} for letter in "ABCD"]
        return 200, completion("A", logprobs={"content": [{**tops[0], "top_logprobs": tops}]})

    with scripted_server(
        lambda body: reply(body) if body.get("logprobs") else Model().reply(body)
    ) as url:
        lm = load_model(f"openai:m@{url}")
        assert np.allclose(lm.choose([CHAT] * 3, list("ABCD")), np.log(0.2))
        assert lm.describe()["logprobs"] == "of the 5 likeliest tokens"


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 12, 24, 23, 59)


@pytest.mark.parametrize(
    ("template", "stated"), [(DATED, "Today's date: 01 Jan 2026"), (ASSEMBLED, "2026-01-1 ")]
)
def test_template_with_a_date_states_the_same_date_in_every_prompt(template, stated, monkeypatch):
    words = tokenizer(template)
    prompt = rendering.render(words, CHAT[1:])
    assert prompt.startswith(stated)
    assert rendering.describe(words)["date"] == "2026-01-01, wherever asked"
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert "2031" in words.apply_chat_template(CHAT[1:], tokenize=False)  # the template's default
    assert rendering.render(words, CHAT[1:]) == prompt
    assert "date" not in rendering.describe(tokenizer())


def test_date_formats_are_those_of_the_clock():
    today = datetime.datetime(2026, 1, 1)
    template = "{{ strftime_now('" + "|".join(rendering.DATE_PARTS) + "') }}"
    written = rendering.render(tokenizer(template), CHAT[1:])
    assert written == today.strftime("|".join(rendering.DATE_PARTS))
