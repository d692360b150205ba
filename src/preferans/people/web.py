"""The rating page: routes, forms and pages."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import jinja2
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from ..data.ratings import CRITERIA, TIE
from .access import check_password, check_token, form_token, known_hosts, protect
from .export import EXPORTS, export_bytes
from .items import Item, queue, shown_answers
from .rendering import answer_html, faults, marked_html, visible
from .results import rating_results
from .results_text import people_words, result_tables
from .rubric import read_rubric
from .store import Rating, RatingStore

_PAGES = Path(__file__).parent / "pages"
STATIC = {"rate.css": "text/css", "rate.js": "text/javascript"}
# Verdicts of the form, in the order of their keys.
VERDICTS = ("left", "right", "both_good", "both_bad")
LONGEST_NAME, LONGEST_COMMENT = 60, 10_000
Score = Annotated[int, Field(ge=1, le=5)]


@dataclass
class Studio:
    """
    What a rating page needs.

    Args:
        store ([`~preferans.people.store.RatingStore`]): The ratings.
        items (`Sequence[Item]`): The items to rate.
        language (`str`): `"ru"` or `"en"`.
        seed (`int`), overlap (`float`): See [`~preferans.people.items.queue`].
        host (`str`), port (`int`): Address of the page.
        password (`str`, *optional*): Required from every rater.
    """

    store: RatingStore
    items: Sequence[Item]
    language: str = "ru"
    seed: int = 42
    overlap: float = 0.2
    host: str = "127.0.0.1"
    port: int = 8765
    password: str | None = None

    def __post_init__(self):
        self.by_id = {item.id: item for item in self.items}
        self.words = people_words(self.language)

    def progress(self, rater: str) -> "Progress":
        """Return what a rater has rated and has to rate."""
        own = {rating.item: rating for rating in self.store.ratings(rater) if rating.item in self.by_id}
        return Progress(queue(self.items, rater, self.store.rated_by(), self.seed, self.overlap), own)


@dataclass
class Progress:
    """A rater's items in order, and the rater's ratings by the item's id, in the order in which they were given."""

    items: list[Item]
    ratings: dict[str, Rating]

    @property
    def done(self) -> int:
        """Number of rated items, without skipped ones."""
        return sum(item.id in self.ratings and not self.ratings[item.id].skipped for item in self.items)

    @property
    def skipped(self) -> list[str]:
        """Ids of the skipped items."""
        return [name for name, rating in self.ratings.items() if rating.skipped]

    @property
    def next_item(self) -> str | None:
        """Id of the next item that was neither rated nor skipped."""
        return next((item.id for item in self.items if item.id not in self.ratings), None)

    @property
    def pace(self) -> float | None:
        """Median seconds of an item; `None` before the first rating."""
        times = [rating.seconds for rating in self.ratings.values() if rating.seconds is not None]
        return median(times) if times else None

    def neighbours(self, name: str) -> tuple[str | None, str | None]:
        """Ids of the items before and after an item in the rater's history; after the last comes the next one."""
        history = list(self.ratings)
        if name not in self.ratings:
            return (history[-1] if history else None), None
        place = history.index(name)
        after = history[place + 1] if place + 1 < len(history) else self.next_item
        return (history[place - 1] if place else None), after


class RatingForm(BaseModel):
    """A rating as the form sends it."""

    token: str = ""
    action: Literal["save", "reference", "skip"] = "save"
    shown_at: float = Field(0.0, ge=0)
    marks: bool = False
    verdict: Literal["left", "right", "both_good", "both_bad"] | None = None
    relevance: Score | None = None
    clarity: Score | None = None
    completeness: Score | None = None
    originality: Score | None = None
    style: Score | None = None
    comment: str = Field("", max_length=LONGEST_COMMENT)

    def rating(self, item: Item, rater: str, shown: list[str]) -> Rating:
        """
        Return the form as a rating.

        Raises:
            [`~fastapi.HTTPException`]: with status 422 if it is incomplete.
        """
        seconds = round(max(time.time() - self.shown_at, 0.0), 1) if self.shown_at else None
        comment = self.comment.replace("\r\n", "\n").strip() or None
        rating = Rating(item.id, rater, shown, comment=comment, seconds=seconds, marks=self.marks)
        if self.action == "skip":
            rating.seconds = None
        elif item.mode == "compare":
            if self.verdict is None:
                raise HTTPException(422, "verdict")
            rating.verdict = dict(zip(VERDICTS, (*shown, TIE, TIE), strict=True))[self.verdict]
            if rating.verdict == TIE:
                rating.thumbs = dict.fromkeys(shown, "up" if self.verdict == "both_good" else "down")
        else:
            scores = {name: getattr(self, name) for name in CRITERIA}
            if None in scores.values():
                raise HTTPException(422, "scores")
            rating.scores = {shown[0]: scores}
        return rating


def chosen_verdict(rating: Rating | None) -> str | None:
    """Return the form's verdict of a rating: one of `VERDICTS`."""
    if rating is None or rating.verdict is None:
        return None
    if rating.verdict != TIE:
        return VERDICTS[rating.shown.index(rating.verdict)]
    return "both_bad" if "down" in (rating.thumbs or {}).values() else "both_good"


def make_app(studio: Studio) -> FastAPI:
    """Build the application of a rating page."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    words, store = studio.words, studio.store

    def page(name: str, request: Request, status: int = 200, **values: Any) -> HTMLResponse:
        session = request.session
        values |= {
            "w": words,
            "language": studio.language,
            "token": form_token(request),
            "rater": session.get("rater"),
        }
        return HTMLResponse(templates.get_template(f"{name}.html.jinja").render(values), status)

    def rater_of(request: Request) -> str:
        session = request.session
        if not session.get("rater") or (studio.password is not None and not session.get("has_password")):
            raise HTTPException(401)
        return session["rater"]

    def item_of(name: str) -> Item:
        if name not in studio.by_id:
            raise HTTPException(404, words("no_such_item"))
        return studio.by_id[name]

    @app.exception_handler(StarletteHTTPException)
    def _show_error(request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code == 401:
            return RedirectResponse("/", 303)
        known = {403: "refused", 404: "not_found", 422: "incomplete"}
        return PlainTextResponse(words(known.get(error.status_code, "refused")), error.status_code)

    @app.exception_handler(RequestValidationError)
    def _show_invalid(request: Request, error: RequestValidationError) -> Response:
        return PlainTextResponse(words("incomplete"), 422)

    @app.get("/")
    def show_start(request: Request) -> Response:
        return page("start", request, needs_password=studio.password is not None, is_wrong=False)

    @app.post("/")
    def start(
        request: Request,
        token: Annotated[str, Form()] = "",
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
    ) -> Response:
        check_token(request, token)
        name = " ".join(visible(name).split())[:LONGEST_NAME]
        if not name or not check_password(studio.password, password):
            return page("start", request, 403, needs_password=studio.password is not None, is_wrong=bool(name))
        request.session.update(rater=name, has_password=studio.password is not None)
        return RedirectResponse("/rate", 303)

    @app.get("/rate")
    def show_next(request: Request) -> Response:
        progress = studio.progress(rater_of(request))
        if progress.next_item:
            return RedirectResponse(f"/items/{progress.next_item}", 303)
        return page("done", request, progress=progress)

    @app.get("/items/{name}")
    def show_item(request: Request, name: str, marks: bool = False, reference: bool = False) -> Response:
        rater, item = rater_of(request), item_of(name)
        progress = studio.progress(rater)
        rating = progress.ratings.get(name)
        last = item.prompt[-1]["content"]
        answers = [
            {
                "html": marked_html(answer.text, last) if marks else answer_html(answer.text),
                "faults": faults(answer.text, answer.finish_reason) if marks else [],
            }
            for answer in _in_order(item, rater, rating, studio.seed)
        ]
        before, after = progress.neighbours(name)
        return page(
            "item",
            request,
            item=item,
            prompt=[{"role": message["role"], "html": answer_html(message["content"])} for message in item.prompt],
            answers=answers,
            rating=rating,
            verdict=chosen_verdict(rating),
            scores=next(iter((rating.scores or {}).values()), {}) if rating else {},
            # nobody sees a reply by a human before their own rating
            reference=answer_html(item.reference) if item.reference and rating and not rating.skipped else None,
            reference_open=reference,
            marks=marks,
            rubric=read_rubric(studio.language),
            verdicts=VERDICTS,
            progress=progress,
            before=before,
            after=after,
            shown_at=time.time(),
        )

    @app.post("/items/{name}")
    def rate(request: Request, name: str, form: Annotated[RatingForm, Form()]) -> Response:
        rater, item = rater_of(request), item_of(name)
        check_token(request, form.token)
        own = {rating.item: rating for rating in store.ratings(rater)}
        shown = [answer.id for answer in _in_order(item, rater, own.get(name), studio.seed)]
        store.record(form.rating(item, rater, shown))
        return RedirectResponse(f"/items/{name}?reference=1" if form.action == "reference" else "/rate", 303)

    @app.post("/undo")
    def undo(request: Request, token: Annotated[str, Form()] = "") -> Response:
        rater = rater_of(request)
        check_token(request, token)
        name = store.withdraw(rater)
        return RedirectResponse(f"/items/{name}" if name in studio.by_id else "/rate", 303)

    @app.get("/results")
    def show_results(request: Request) -> Response:
        progress = studio.progress(rater_of(request))
        rated = _open_to(progress)
        results = rating_results(store.judgements(rated))
        disputed = [
            (dispute, answer_html(dispute.prompt), [answer_html(answer["text"]) for answer in dispute.answers])
            for dispute in results.disputed
        ]
        tables = result_tables(results, words)
        return page(
            "results",
            request,
            results=results,
            tables=tables,
            disputed=disputed,
            is_partial=progress.next_item is not None or bool(progress.skipped),
            exports=EXPORTS,
        )

    @app.get("/export/ratings{suffix}")
    def export(request: Request, suffix: str) -> Response:
        rated = _open_to(studio.progress(rater_of(request)))
        if suffix not in EXPORTS:
            raise HTTPException(404)
        headers = {"Content-Disposition": f'attachment; filename="ratings{suffix}"'}
        return Response(export_bytes(store.judgements(rated), suffix), media_type=EXPORTS[suffix], headers=headers)

    @app.get("/favicon.ico")
    def no_icon() -> Response:
        return Response(status_code=204)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        return FileResponse(_PAGES / name, media_type=STATIC[name])

    protect(app, known_hosts(studio.host), store.secret, studio.port)
    return app


def _in_order(item: Item, rater: str, rating: Rating | None, seed: int) -> list:
    """Return the answers from left to right, as the rater saw them before if the item was rated."""
    answers = {answer.id: answer for answer in shown_answers(item, rater, seed)}
    return [answers[name] for name in (rating.shown if rating else answers)]


def _open_to(progress: Progress) -> set[str]:
    """Ids of the items whose ratings by others a rater may see: those that the rater has rated."""
    return {name for name, rating in progress.ratings.items() if not rating.skipped}
