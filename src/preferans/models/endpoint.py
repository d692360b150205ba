"""
A model behind an OpenAI-compatible address.

The `openai` package handles connections, timeouts, waiting and retries. This module handles the differences between servers, and the error
messages.
"""

import argparse
import hashlib
import ipaddress
import json
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from ..errors import PreferansError, did_you_mean
from ..utf8 import writable

if TYPE_CHECKING:
    import openai


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

RETRIES = 6  # with the openai package's waits, a server can be down for about 20 seconds
RETRIES_AT_FIRST = 2  # a missing server is reported quickly
TIMEOUT_SECONDS = 600.0
WORKERS = 4
# Local servers accept any key, but the client requires one.
NO_KEY = "none"
# A short request that every server can answer, and that shows whether it follows a schema.
TRIAL = [{"role": "user", "content": 'Ответь объектом JSON: {"ok": true}'}]
TRIAL_SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
TRIAL_TOKENS = 32


class RequestRefused(PreferansError):
    """The server rejects one request, such as a prompt that is too long, but accepts others."""


class GarbledReply(PreferansError):
    """The response is not a chat completion."""


class Reply(NamedTuple):
    """
    A model's answer.

    Attributes:
        text (`str`): The answer; empty if there is none.
        finish_reason (`str`): `"stop"` if the model ended it, `"length"` if the limit did, or the server's own word.
        prompt_tokens (`int`, *optional*), completion_tokens (`int`, *optional*): The server's counts, if any.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


def add_endpoint_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options for a served model."""
    add = parser.add_argument
    add(
        "--endpoint",
        required=required,
        metavar="URL",
        help="OpenAI-compatible server, such as http://localhost:8000/v1; its key is read from OPENAI_API_KEY",
    )
    add("--model", required=required, metavar="NAME", help="name of the model on the server")
    add(
        "--workers",
        type=int,
        default=WORKERS,
        help="parallel requests, which a server can batch (default: %(default)s)",
    )


class Endpoint:
    """
    A served model.

    Args:
        url (`str`): Address of the server; the default path is `/v1`. A name and password in it are used but never shown.
        model (`str`): Name of the model on the server.
        workers (`int`, *optional*, defaults to `4`): Parallel requests, see [`~Endpoint.map`].
        timeout (`float`, *optional*, defaults to `600.0`): Seconds to wait for one reply.

    Raises:
        [`PreferansError`]: if the address is invalid, or the `openai` package is missing.
    """

    def __init__(self, url: str, model: str, workers: int = WORKERS, timeout: float = TIMEOUT_SECONDS):
        try:
            import openai
        except ImportError:
            raise PreferansError("--endpoint needs the openai package: pip install openai.") from None
        try:
            address = urlsplit(url)
            host, port = address.hostname, address.port
        except ValueError:  # an invalid port
            host = port = None
        if not host or address.scheme not in ("http", "https"):
            raise PreferansError("--endpoint: write a complete address, such as http://localhost:8000/v1.")
        if workers < 1:
            raise PreferansError(f"--workers {workers}: it must be at least 1.")
        self.model = model
        self.workers = workers
        self.host = f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
        self._key = os.environ.get("OPENAI_API_KEY") or NO_KEY
        self._password = address.password
        self._left_out: set[str] = set()  # options that this server does not support
        self._long_limit = False  # max_completion_tokens instead of max_tokens
        self._generation_config = False  # transformers serve has a separate field for sampling
        self._client = openai.OpenAI(
            base_url=url if address.path.strip("/") else f"{url.rstrip('/')}/v1",
            api_key=self._key,
            timeout=timeout,
            max_retries=RETRIES,
            # proxies do not apply to this machine
            http_client=openai.DefaultHttpxClient(trust_env=not _is_loopback(host)),
        )

    @property
    def takes_schema(self) -> bool:
        """Whether the server supports a JSON schema, as [`~Endpoint.settle`] detected."""
        return "schema" not in self._left_out

    def settle(self, optional: Iterable[str] = (), **options: Any) -> list[str]:
        """
        Check with a short request that the model exists, and detect which options the server supports, for all later requests.

        Args:
            optional (`Iterable[str]`, *optional*): Options that can be left out if the server rejects them.
            **options: Options of the later calls of [`~Endpoint.ask`].

        Returns:
            `list[str]`: a sentence for each option that is not used as requested.

        Raises:
            [`PreferansError`]: if the server is down, rejects the key, or does not have the model or its chat template.
        """
        import openai

        optional, notes = set(optional), list[str]()
        options |= {"max_tokens": TRIAL_TOKENS}
        if options.get("schema"):
            options["schema"] = TRIAL_SCHEMA
        while True:
            try:
                reply = self._create(TRIAL, options, RETRIES_AT_FIRST)
            except openai.APIStatusError as error:
                note = self._adapt(error, optional, options)
                if note is None:
                    raise self._explained(error) from None
                notes += [note] if note else []
            except (openai.OpenAIError, ValueError) as error:
                raise self._explained(error) from None
            else:
                if options.get("schema") and self.takes_schema and not _follows_trial(reply.text):
                    notes.append(
                        "The server accepts a JSON schema but does not follow it, so replies are read without one."
                    )
                return notes

    def _adapt(self, error: "openai.APIStatusError", optional: set[str], options: dict[str, Any]) -> str | None:
        """Adapt to a server that rejects an option. Return a note, which may be empty, or `None` if that is impossible."""
        if error.status_code not in (400, 404, 422, 501):
            return None
        words = self._words(error)
        if "max_completion_tokens" in words and not self._long_limit:
            self._long_limit = True
            return ""
        if "top_k" in words and "top_k" in options and not self._generation_config:
            if "Unexpected fields" in words:  # transformers serve, which would otherwise use greedy decoding
                self._generation_config = True
                return ""
            if not options["top_k"]:  # disabled, which is the default
                self._left_out.add("top_k")
                return ""
            raise PreferansError(
                f"The server at {self.host} does not support top_k. Use --top_k 0, which samples without it."
            )
        present = [name for name in ("temperature", "seed", "top_p") if options.get(name) is not None]
        for name in present:
            if name in optional and name in words and name not in self._left_out:
                self._left_out.add(name)
                return f"The server does not support this {name} and uses its own: {words:.120}"
        if error.status_code != 404 and options.get("schema") and "schema" in optional and self.takes_schema:
            self._left_out.add("schema")
            return f"The server does not support a JSON schema, so JSON is requested in words: {words:.120}"
        return None

    def ask(self, messages: list[dict], **options: Any) -> Reply:
        """
        Request one answer, with retries where they can help.

        Args:
            messages (`list[dict]`): Conversation that ends with the user's message.
            max_tokens (`int`): Maximum length of the answer.
            temperature (`float`), top_p (`float`), top_k (`int`), seed (`int`), schema (`dict`), all *optional*:
                Sampling, and the JSON schema of the answer. `top_k` 0 disables it. Options that the server does not support are left
                out.

        Raises:
            [`RequestRefused`]: if the server rejects this request.
            [`GarbledReply`]: if the response cannot be read.
            [`PreferansError`]: if the server can no longer be used.
        """
        import openai

        try:
            return self._create(messages, options, RETRIES)
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from None

    def _create(self, messages: list[dict], options: dict[str, Any], retries: int) -> Reply:
        options = {name: value for name, value in options.items() if value is not None and name not in self._left_out}
        schema, top_k = options.pop("schema", None), options.pop("top_k", None)
        extra: dict[str, Any] = {}
        if top_k is not None and self._generation_config:
            sampling: dict[str, Any] = {
                name: options.pop(name) for name in ("temperature", "top_p") if name in options
            }
            sampling |= {"top_k": top_k, "do_sample": sampling.get("temperature") != 0}
            if not sampling["do_sample"]:
                sampling = {"do_sample": False}
            extra["generation_config"] = json.dumps(sampling)
        elif top_k is not None:
            extra["top_k"] = top_k
        if schema:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": schema, "strict": True},
            }
        if self._long_limit:
            options["max_completion_tokens"] = options.pop("max_tokens")
        completion = self._client.with_options(max_retries=retries).chat.completions.create(
            model=self.model, messages=messages, extra_body=extra, **options
        )
        try:
            choice, usage = completion.choices[0], completion.usage
            return Reply(
                writable(choice.message.content or ""),
                choice.finish_reason or "stop",
                usage and usage.prompt_tokens,
                usage and usage.completion_tokens,
            )
        except (AttributeError, IndexError, TypeError):  # other JSON, a page, or parts instead of a text
            raise ValueError("it has no completion") from None

    def _explained(self, error: Exception) -> PreferansError:
        """Turn an error of the `openai` package into one with a remedy."""
        import openai

        words, status = self._words(error), getattr(error, "status_code", None)
        here = f"The server at {self.host}"
        if isinstance(error, openai.APITimeoutError):
            return PreferansError(
                f"{here} did not answer within {self._client.timeout:.0f} seconds, after several attempts. Send fewer requests at a "
                "time (--workers 1) or request shorter answers; the same command resumes."
            )
        if isinstance(error, openai.APIConnectionError):
            return PreferansError(
                f"{here} cannot be reached, or closed the connection ({error.__cause__ or error}). Check that it is running and that "
                "--endpoint is its address. The same command resumes."
            )
        if status is None:
            return GarbledReply(
                f"{here} did not return a chat completion ({words}). Check that --endpoint is the address of an OpenAI-compatible "
                "server; it often ends in /v1."
            )
        return self._explained_status(here, status, words)

    def _explained_status(self, here: str, status: int, words: str) -> PreferansError:
        if status in (401, 403):
            return PreferansError(
                f"{here} rejects the key ({status}). Set the environment variable OPENAI_API_KEY to a valid key; "
                f"{'it is not set' if self._key == NO_KEY else 'the present one is not accepted'}."
            )
        if status == 404:
            return PreferansError(f"{here} has no model '{self.model}' at this address. {self._models()}")
        if status == 429:
            return PreferansError(
                f"{here} is rate-limiting you ({words}). Send fewer requests at a time (--workers 1), or run the same command later: it "
                "resumes."
            )
        if "chat template" in words or "chat_template" in words:
            return PreferansError(
                f"{here} has no chat template for '{self.model}', so it cannot answer conversations. Serve a chat model, or set a "
                "template on the server (vLLM: --chat-template FILE)."
            )
        if status >= 500:
            return PreferansError(
                f"{here} failed ({status}: {words}), after several attempts; see its log. With transformers serve, this happens if "
                f"'{self.model}' has no chat template or is not on its disk."
            )
        return RequestRefused(f"{here} rejects the request ({status}: {words}).")

    def _models(self) -> str:
        import openai

        try:
            names = [model.id for model in self._client.with_options(max_retries=0, timeout=10).models.list()]
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):
            names = []
        if not names:
            return "Check --model, and that --endpoint is the complete address; it often ends in /v1."
        near = did_you_mean(self.model, names)
        return f"It has {', '.join(names[:10])}{' …' if len(names) > 10 else ''}.{near}"

    def _words(self, error: Exception) -> str:
        """Return the server's message on one line, without the key."""
        body = getattr(error, "body", None)
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body.get("error") or json.dumps(body)
        words = " ".join(str(body or error).split())
        for secret in (self._key, self._password):
            if secret and secret != NO_KEY:
                words = words.replace(secret, "…")
        return f"{words:.300}"

    def map(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[tuple[_Item, _Result]]:
        """
        Call `work`, which uses this endpoint, for many items, `workers` at a time, and yield items and results as they finish.

        An error of `work` is raised after the running calls have finished.
        """
        waiting: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stopped = threading.Event()
        for item in items:
            waiting.put(item)

        def loop() -> None:
            while not stopped.is_set():
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    break
                try:
                    finished.put((item, work(item), None))
                except BaseException as error:
                    stopped.set()
                    finished.put((item, None, error))
            finished.put(None)

        # daemons, so that Ctrl-C does not wait for pending replies
        running = [threading.Thread(target=loop, daemon=True) for _ in range(min(self.workers, waiting.qsize()))]
        for thread in running:
            thread.start()
        ended, failure = 0, None
        try:
            while ended < len(running):
                try:
                    done = finished.get(timeout=0.5)  # without a timeout, Ctrl-C does not work on Windows
                except queue.Empty:
                    continue
                if done is None:
                    ended += 1
                elif done[2] is not None:
                    failure = failure or done[2]
                else:
                    yield done[0], done[1]
        finally:
            stopped.set()
        if failure is not None:
            raise failure


def seed_of(*parts: Any) -> int:
    """Derive a reproducible seed of 31 bits, which every server accepts, from a run's seed and the parts of a request."""
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _follows_trial(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
