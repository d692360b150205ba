"""
A model behind an OpenAI-compatible address: vLLM, llama.cpp, Ollama, `transformers serve`, or a paid service.

The `openai` package does the talking: connections, timeouts, waiting as long as the server asks, and trying again. Here stands what
servers disagree about, and what a person is told when one cannot be used.
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


Item = TypeVar("Item")
_Result = TypeVar("Result")

RETRIES = 6  # with the waits of the openai package, a server may be away for about 20 seconds
RETRIES_AT_FIRST = 2  # a server that is not there at all is told of at once
TIMEOUT_SECONDS = 600.0
WORKERS = 4
# Local servers take any key, but the client wants one.
NO_KEY = "none"
# A request that every server can answer in few tokens, and that shows whether a schema is followed.
TRIAL = [{"role": "user", "content": 'Ответь объектом JSON: {"ok": true}'}]
TRIAL_SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
TRIAL_TOKENS = 32


class RequestRefused(PreferansError):
    """This one request cannot be answered, such as a prompt that is too long; others can."""


class GarbledReply(PreferansError):
    """What came back is no chat completion."""


class Reply(NamedTuple):
    """
    What a model answered.

    Attributes:
        text (`str`): The answer, empty where there is none.
        finish_reason (`str`): `"stop"` when the model ended it, `"length"` when the limit did, or what else the server says.
        prompt_tokens (`int`, *optional*), completion_tokens (`int`, *optional*): As the server counts them; `None` if it does not.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


def add_endpoint_arguments(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add the options that name a served model."""
    add = parser.add_argument
    add(
        "--endpoint",
        required=required,
        metavar="URL",
        help="OpenAI-compatible server, such as http://localhost:8000/v1; its key is read from OPENAI_API_KEY",
    )
    add("--model", required=required, metavar="NAME", help="model that the server is asked for")
    add(
        "--workers",
        type=int,
        default=WORKERS,
        help="requests at a time: a server batches what comes together (default: %(default)s)",
    )


class Endpoint:
    """
    A served model.

    Args:
        url (`str`):
            Address of the server; without a path, `/v1` is meant. A name and password in it are used and never shown.
        model (`str`):
            Name by which the server knows the model.
        workers (`int`, *optional*, defaults to `4`):
            Requests at a time, see [`~Endpoint.map`].
        timeout (`float`, *optional*, defaults to `600.0`):
            Seconds to wait for one reply.

    Raises:
        [`PreferansError`]: when the address is none, or the `openai` package is missing.
    """

    def __init__(self, url: str, model: str, workers: int = WORKERS, timeout: float = TIMEOUT_SECONDS):
        try:
            import openai
        except ImportError:
            raise PreferansError(
                "--endpoint needs the openai package, which talks to every server of this kind: pip install openai."
            ) from None
        try:
            address = urlsplit(url)
            host, port = address.hostname, address.port
        except ValueError:  # a port that is no number
            host = port = None
        if not host or address.scheme not in ("http", "https"):
            raise PreferansError("--endpoint: write a whole address, such as http://localhost:8000/v1.")
        if workers < 1:
            raise PreferansError(f"--workers {workers}: at least one request must be on its way.")
        self.model = model
        self.workers = workers
        self.host = f"{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
        self._key = os.environ.get("OPENAI_API_KEY") or NO_KEY
        self._password = address.password
        self._left_out: set[str] = set()  # options that this server does not take
        self._long_limit = False  # max_completion_tokens instead of max_tokens
        self._generation_config = False  # transformers serve: sampling has a field of its own
        self._client = openai.OpenAI(
            base_url=url if address.path.strip("/") else f"{url.rstrip('/')}/v1",
            api_key=self._key,
            timeout=timeout,
            max_retries=RETRIES,
            # a proxy for the wide world knows nothing of this machine
            http_client=openai.DefaultHttpxClient(trust_env=not _is_loopback(host)),
        )

    @property
    def takes_schema(self) -> bool:
        """Whether the server takes a JSON schema, as far as [`~Endpoint.settle`] found out."""
        return "schema" not in self._left_out

    def settle(self, optional: Iterable[str] = (), **options: Any) -> list[str]:
        """
        Find out with one short request whether the model is there and which options the server takes. What is found holds for every
        later request.

        Args:
            optional (`Iterable[str]`, *optional*):
                Options that may be left out when the server refuses them.
            **options:
                Options of [`~Endpoint.ask`] as they will be used.

        Returns:
            `list[str]`: a sentence for each thing that is done otherwise than asked.

        Raises:
            [`PreferansError`]: when the server is down, refuses the key, knows no such model, or cannot use its chat template.
        """
        import openai

        optional, told = set(optional), []
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
                told += [note] if note else []
            except (openai.OpenAIError, ValueError) as error:
                raise self._explained(error) from None
            else:
                if options.get("schema") and self.takes_schema and not _follows_trial(reply.text):
                    told.append(
                        "The server takes a JSON schema, but a trial did not follow it: replies are read as they come."
                    )
                return told

    def _adapt(self, error: "openai.APIStatusError", optional: set[str], options: dict[str, Any]) -> str | None:
        """Give way to a server that refuses an option: what to tell of it, empty if nothing, or `None` if there is no way."""
        if error.status_code not in (400, 404, 422, 501):
            return None
        words = self._words(error)
        if "max_completion_tokens" in words and not self._long_limit:
            self._long_limit = True
            return ""
        if "top_k" in words and "top_k" in options and not self._generation_config:
            if "Unexpected fields" in words:  # transformers serve, which would otherwise take the likeliest token
                self._generation_config = True
                return ""
            if not options["top_k"]:  # switched off, which is what happens without it
                self._left_out.add("top_k")
                return ""
            raise PreferansError(
                f"The server at {self.host} does not take top_k. Give --top_k 0, which samples without it."
            )
        present = [name for name in ("temperature", "seed", "top_p") if options.get(name) is not None]
        for name in present:
            if name in optional and name in words and name not in self._left_out:
                self._left_out.add(name)
                return f"The server does not take this {name}, so it decides itself: {words:.120}"
        if error.status_code != 404 and options.get("schema") and "schema" in optional and self.takes_schema:
            self._left_out.add("schema")
            return f"The server takes no JSON schema, so JSON is asked for in words: {words:.120}"
        return None

    def ask(self, messages: list[dict], **options: Any) -> Reply:
        """
        Ask for one answer, trying again where that may help.

        Args:
            messages (`list[dict]`):
                Conversation, the user's message last.
            max_tokens (`int`):
                Longest answer.
            temperature (`float`), top_p (`float`), top_k (`int`), seed (`int`), schema (`dict`), all *optional*:
                Sampling, and the JSON schema that the answer must follow. `top_k` 0 is off. Those that [`~Endpoint.settle`]
                found refused are left out.

        Returns:
            [`Reply`].

        Raises:
            [`RequestRefused`]: when the server refuses this request.
            [`GarbledReply`]: when what comes back cannot be read.
            [`PreferansError`]: when the server can no longer be used.
        """
        import openai

        try:
            return self._create(messages, options, RETRIES)
        except (openai.OpenAIError, ValueError) as error:
            raise self._explained(error) from None

    def _create(self, messages: list[dict], options: dict[str, Any], retries: int) -> Reply:
        options = {name: value for name, value in options.items() if value is not None and name not in self._left_out}
        schema, top_k = options.pop("schema", None), options.pop("top_k", None)
        extra = {}
        if top_k is not None and self._generation_config:
            sampling = {name: options.pop(name) for name in ("temperature", "top_p") if name in options}
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
        except (
            AttributeError,
            IndexError,
            TypeError,
        ):  # JSON, or a page, or parts in place of a text, but no completion
            raise ValueError("no completion in it") from None

    def _explained(self, error: Exception) -> PreferansError:
        """What a person is told of an error of the `openai` package."""
        import openai

        words, status = self._words(error), getattr(error, "status_code", None)
        here = f"The server at {self.host}"
        if isinstance(error, openai.APITimeoutError):
            return PreferansError(
                f"{here} gave no answer within {self._client.timeout:.0f} seconds, tried several times. Ask for fewer things at a "
                "time (--workers 1) or for shorter answers; the same command goes on where it stopped."
            )
        if isinstance(error, openai.APIConnectionError):
            return PreferansError(
                f"{here} cannot be reached, or broke the connection ({error.__cause__ or error}). Is it running, and is --endpoint its "
                "address? When it is back, the same command goes on where it stopped."
            )
        if status in (401, 403):
            return PreferansError(
                f"{here} refuses the key ({status}). Put the right one into the environment variable OPENAI_API_KEY; "
                f"{'it is not set now' if self._key == NO_KEY else 'the one that is set does not open it'}."
            )
        if status == 404:
            return PreferansError(
                f"{here} has nothing under this address for the model '{self.model}'. {self._models()}"
            )
        if status == 429:
            return PreferansError(
                f"{here} answers only so many requests, and that number is used up ({words}). Ask for fewer at a time (--workers 1), "
                "or give the same command later: it goes on where it stopped."
            )
        if "chat template" in words or "chat_template" in words:
            return PreferansError(
                f"{here} has no chat template for '{self.model}', so it cannot put a conversation to it. Serve a chat model, or give "
                "the server a template (vLLM: --chat-template FILE)."
            )
        if status is not None and status >= 500:
            return PreferansError(
                f"{here} failed ({status}: {words}), tried several times. Its own log says why. With transformers serve this is how a "
                f"model without a chat template shows, and one that is not on its disk; '{self.model}' was asked for."
            )
        if status is not None:
            return RequestRefused(f"{here} refuses the request ({status}: {words}).")
        return GarbledReply(
            f"{here} replied with something that is no chat completion ({words}). Is --endpoint the address of an OpenAI-compatible "
            "server? It often ends in /v1."
        )

    def _models(self) -> str:
        import openai

        try:
            names = [model.id for model in self._client.with_options(max_retries=0, timeout=10).models.list()]
        except (openai.OpenAIError, ValueError, AttributeError, TypeError):
            names = []
        if not names:
            return "Check --model, and that --endpoint is the whole address; it often ends in /v1."
        near = did_you_mean(self.model, names)
        return f"It has {', '.join(names[:10])}{' …' if len(names) > 10 else ''}.{near}"

    def _words(self, error: Exception) -> str:
        """The server's own words, on one line and without the key."""
        body = getattr(error, "body", None)
        if isinstance(body, dict):
            body = body.get("message") or body.get("detail") or body.get("error") or json.dumps(body)
        words = " ".join(str(body or error).split())
        for secret in (self._key, self._password):
            if secret and secret != NO_KEY:
                words = words.replace(secret, "…")
        return f"{words:.300}"

    def map(self, work: Callable[[Item], _Result], items: Iterable[Item]) -> Iterator[tuple[Item, _Result]]:
        """
        Do `work`, which asks this endpoint, for many items, `workers` at a time.

        Args:
            work (`Callable`):
                Function of one item, called in a thread.
            items (`Iterable`):
                Items.

        Yields:
            `tuple[Item, Result]`: as they are finished.

        Raises:
            What `work` raises, once what was on its way has been yielded.
        """
        waiting, finished, stopped = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
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

        # daemons, so that Ctrl-C need not wait for replies on their way
        running = [threading.Thread(target=loop, daemon=True) for _ in range(min(self.workers, waiting.qsize()))]
        for thread in running:
            thread.start()
        ended, failure = 0, None
        try:
            while ended < len(running):
                try:
                    done = finished.get(timeout=0.5)  # without a limit Windows would not hear Ctrl-C
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
    """Seed made of a run's seed and of what is asked: the same in every run, and of 31 bits, which every server takes."""
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
