"""A served model and its faults, over real HTTP on the loopback."""

import threading

import pytest

from preferans.errors import PreferansError
from preferans.models.endpoint import Endpoint, GarbledReply, RequestRefused

from ..support.scripted_endpoint import ScriptedEndpoint, completion, cut, hang_up, raw, status

pytestmark = pytest.mark.usefixtures("hasty")
ASKED = [{"role": "user", "content": "Привет?"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
KEY = "sk-this-is-a-secret"


def one_of(*actions):
    return lambda request: actions[min(request["number"], len(actions) - 1)]


def test_a_reply_has_text_reason_and_tokens():
    with ScriptedEndpoint(one_of(completion("Здравствуйте!", "length", (5, 3)))) as server:
        reply = Endpoint(server.url, "m").ask(ASKED, max_tokens=3, temperature=0.5, top_k=7, seed=9)
    assert reply == ("Здравствуйте!", "length", 5, 3)
    sent = server.requests[0]
    assert {key: sent[key] for key in ("model", "messages", "max_tokens", "temperature", "top_k", "seed")} == {
        "model": "m",
        "messages": ASKED,
        "max_tokens": 3,
        "temperature": 0.5,
        "top_k": 7,
        "seed": 9,
    }
    assert "response_format" not in sent


def test_lone_surrogates_are_replaced():
    with ScriptedEndpoint(one_of(completion("Кот \ud83d\ude3a и \ud83d"))) as server:
        assert Endpoint(server.url, "m").ask(ASKED, max_tokens=3).text == "Кот 😺 и \ufffd"


def test_the_default_path_is_v1():
    with ScriptedEndpoint(one_of("да")) as server:
        Endpoint(server.url.removesuffix("/v1"), "m").ask(ASKED, max_tokens=3)
        Endpoint(server.url + "/", "m").ask(ASKED, max_tokens=3)
    assert [request["path"] for request in server.requests] == ["/v1/chat/completions"] * 2


@pytest.mark.parametrize(
    "fault",
    [status(429, "slow down"), status(500, "oops"), status(503, "Loading model"), hang_up(), cut("наполовину")],
    ids=["429", "500", "503", "closed connection", "cut body"],
)
def test_retries_after_temporary_faults(fault):
    with ScriptedEndpoint(one_of(fault, fault, "Целый ответ")) as server:
        assert Endpoint(server.url, "m").ask(ASKED, max_tokens=9).text == "Целый ответ"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(429, "quota"), "rate-limiting you.*quota.*same command later"),
        (status(429, "quota", retry_after="9999"), "rate-limiting"),
        (status(500, "Internal Server Error"), "500.*no chat template"),
        (status(400, "default chat template is no longer allowed"), "no chat template for 'm'"),
        (hang_up(), "closed the connection.*Check that it is running"),
        (cut("наполовину"), "closed the connection"),
    ],
)
def test_permanent_faults_are_one_message(fault, message):
    with ScriptedEndpoint(one_of(fault)) as server:
        with pytest.raises(PreferansError, match=message) as error:
            Endpoint(server.url, "m").settle(temperature=0.0)
    assert "\n" not in str(error.value)


def test_a_server_that_is_down():
    with ScriptedEndpoint(one_of("да")) as server:
        pass
    with pytest.raises(PreferansError, match=r"127\.0\.0\.1:\d+ cannot be reached.*Check that it is running"):
        Endpoint(server.url, "m").settle()


@pytest.mark.parametrize("code", [401, 403])
def test_a_rejected_key_is_never_shown(code, monkeypatch):
    with ScriptedEndpoint(one_of(status(code, f"Incorrect API key provided: {KEY}"))) as server:
        with pytest.raises(PreferansError, match="rejects the key.*OPENAI_API_KEY.*it is not set"):
            Endpoint(server.url, "m").settle()
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(PreferansError, match="the present one is not accepted") as error:
            Endpoint(server.url, "m").settle()
    assert server.keys == ["Bearer none", f"Bearer {KEY}"]
    assert KEY not in str(error.value)


def test_secrets_in_server_messages_are_hidden(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedEndpoint(one_of(status(400, f"bad request by {KEY} and пароль"))) as server:
        endpoint = Endpoint(server.url.replace("127.", "anna:пароль@127."), "m")
        assert "anna" not in endpoint.host
        with pytest.raises(RequestRefused, match="bad request by … and …"):
            endpoint.ask(ASKED, max_tokens=3)


def test_names_the_available_models():
    with ScriptedEndpoint(one_of(status(404, "no such model")), models=("gemma-3-4b", "qwen3-8b")) as server:
        with pytest.raises(
            PreferansError,
            match=r"'gemma-3-4' at this address\. It has gemma-3-4b, qwen3-8b\. Did you mean 'gemma-3-4b'",
        ):
            Endpoint(server.url, "gemma-3-4").settle()


@pytest.mark.parametrize(
    "page",
    [
        raw("<html>Welcome</html>", "text/html"),
        raw('{"choices": ['),
        raw('{"hello": 1}'),
        raw('{"choices": []}'),
        raw("[]"),
    ],
)
def test_other_responses_are_garbled_replies(page):
    with ScriptedEndpoint(one_of(page)) as server:
        with pytest.raises(GarbledReply, match="did not return a chat completion.*often ends in /v1"):
            Endpoint(server.url, "m").settle()


def test_a_list_instead_of_a_text_is_a_garbled_reply():
    parts = [{"type": "thinking", "thinking": "Хм."}, {"type": "text", "text": "Да."}]
    with ScriptedEndpoint(one_of(completion(parts))) as server, pytest.raises(GarbledReply):
        Endpoint(server.url, "m").ask(ASKED, max_tokens=3)


def test_missing_text_is_empty_and_missing_counts_are_none():
    with ScriptedEndpoint(one_of(completion(None, "content_filter", None))) as server:
        assert Endpoint(server.url, "m").ask(ASKED, max_tokens=3) == ("", "content_filter", None, None)


def test_a_prompt_that_is_too_long_is_rejected_alone():
    words = "maximum context length is 4096 tokens"
    with ScriptedEndpoint(one_of(status(400, words), "да")) as server:
        endpoint = Endpoint(server.url, "m")
        with pytest.raises(RequestRefused, match=words):
            endpoint.ask(ASKED, max_tokens=3)
        assert endpoint.ask(ASKED, max_tokens=3).text == "да"


def test_sends_a_schema_if_the_server_supports_it():
    with ScriptedEndpoint(one_of('{"ok": true}')) as server:
        endpoint = Endpoint(server.url, "m")
        assert endpoint.settle(optional=["schema"], schema=SCHEMA) == []
        endpoint.ask(ASKED, max_tokens=3, schema=SCHEMA)
    assert server.requests[1]["response_format"]["json_schema"]["schema"] == SCHEMA


def test_leaves_out_a_rejected_schema_with_a_note():
    def answer(request):
        return status(400, "response_format is not supported") if "response_format" in request else "да"

    with ScriptedEndpoint(answer) as server:
        endpoint = Endpoint(server.url, "m")
        (note,) = endpoint.settle(optional=["schema"], schema=SCHEMA)
        assert "does not support a JSON schema" in note
        endpoint.ask(ASKED, max_tokens=3, schema=SCHEMA)
    assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert not endpoint.takes_schema


def test_notes_a_schema_that_is_not_followed():
    with ScriptedEndpoint(one_of("Хорошо, вот ответ: да")) as server:
        (note,) = Endpoint(server.url, "m").settle(optional=["schema"], schema=SCHEMA)
    assert "does not follow it" in note


def test_adapts_to_max_completion_tokens_and_fixed_temperature():
    def answer(request):
        if "max_tokens" in request:
            return status(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if request.get("temperature") == 0:
            return status(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
        return "{}"

    with ScriptedEndpoint(answer) as server:
        endpoint = Endpoint(server.url, "m")
        (note,) = endpoint.settle(optional=["temperature", "schema"], schema=SCHEMA, temperature=0.0)
        assert "uses its own" in note
        endpoint.ask(ASKED, max_tokens=55, temperature=0.0, schema=SCHEMA)
    assert server.requests[-1]["max_completion_tokens"] == 55
    assert "temperature" not in server.requests[-1]
    assert endpoint.takes_schema


def test_sampling_is_never_changed_silently():
    def answer(request):
        return status(400, "Unrecognized request argument supplied: top_k") if "top_k" in request else "да"

    with ScriptedEndpoint(answer) as server:
        with pytest.raises(PreferansError, match="does not support top_k. Use --top_k 0"):
            Endpoint(server.url, "m").settle(temperature=0.7, top_k=60)
        assert Endpoint(server.url, "m").settle(temperature=0.7, top_k=0) == []
    with ScriptedEndpoint(one_of(status(400, "temperature must be 1"))) as server:
        with pytest.raises(PreferansError, match="rejects the request.*temperature must be 1"):
            Endpoint(server.url, "m").settle(temperature=0.7)


def test_map_calls_each_item_once_in_parallel():
    together, most = threading.Barrier(3, timeout=20), []

    def answer(request):
        together.wait()  # three requests are on their way, or this fails
        most.append(1)
        return request["messages"][-1]["content"].upper()

    with ScriptedEndpoint(answer) as server:
        endpoint = Endpoint(server.url, "m", workers=3)
        done = dict(
            endpoint.map(lambda text: endpoint.ask([{"role": "user", "content": text}], max_tokens=3).text, "абвгде")
        )
    assert done == dict(zip("абвгде", "АБВГДЕ", strict=True))


def test_map_yields_running_results_before_an_error():
    under_way, failing = threading.Event(), threading.Event()

    def work(item):
        if item == 0:
            assert under_way.wait(20)
            failing.set()
            raise PreferansError("down")
        under_way.set()
        assert failing.wait(20)
        return item

    seen = []
    with pytest.raises(PreferansError, match="down"):
        for item, _ in Endpoint("http://localhost:1", "m", workers=2).map(work, range(50)):
            seen.append(item)
    assert seen == [1]


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "http://localhost:abc/v1", ""])
def test_rejects_invalid_addresses(url):
    with pytest.raises(PreferansError, match="write a complete address"):
        Endpoint(url, "m")


def test_proxies_are_not_used_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with ScriptedEndpoint(one_of("да")) as server:
        assert Endpoint(server.url, "m").ask(ASKED, max_tokens=3).text == "да"
