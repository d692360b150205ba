"""The Hub's error responses."""


class HubError(Exception):
    """
    An error response, as the clients read it.

    Args:
        status (`int`): HTTP status.
        message (`str`): Sent in the body and in `X-Error-Message`.
        code (`str`, *optional*): `X-Error-Code`, by which huggingface_hub picks its exception, e.g. `RepoNotFound`.
        body (`dict`, *optional*): Further keys of the response beside `error`.
        headers (`dict`, *optional*): Further headers of the response.
    """

    def __init__(self, status: int, message: str, code: str | None = None, body: dict | None = None, headers=None):
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.code = status, message, code
        self.body, self.headers = body or {}, headers or {}
