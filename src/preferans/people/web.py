"""The rating page: routes and pages."""

import time
from pathlib import Path
from typing import Annotated, Any

import jinja2
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from ..utf8 import visible
from .access import check_form_token, check_password, form_token, known_hosts, protect
from .export import EXPORTS, export_bytes
from .items import Item
from .rating_form import VERDICTS, RatingForm, chosen_verdict
from .rendering import answer_html, faults, marked_html
from .results import rating_results
from .results_text import result_tables
from .rubric import read_rubric
from .studio import Studio

_PAGES = Path(__file__).parent / "pages"
_STATIC = {"rate.css": "text/css", "rate.js": "text/javascript"}
_LONGEST_NAME = 60


def make_app(studio: Studio) -> FastAPI:
    """Build the application of a rating page."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages = _Pages(studio)
    app.exception_handler(StarletteHTTPException)(pages.show_error)
    app.exception_handler(RequestValidationError)(pages.show_invalid)
    app.get("/")(pages.show_start)
    app.post("/")(pages.start)
    app.get("/rate")(pages.show_next)
    app.get("/items/{name}")(pages.show_item)
    app.post("/items/{name}")(pages.rate)
    app.post("/undo")(pages.undo)
    app.get("/results")(pages.show_results)
    app.get("/export/ratings{suffix}")(pages.export)
    app.get("/static/{name}")(_static)
    app.get("/favicon.ico")(_no_icon)
    protect(app, known_hosts(studio.host), studio.store.secret, studio.port)
    return app


def _static(name: str) -> Response:
    if name not in _STATIC:
        raise HTTPException(404)
    return FileResponse(_PAGES / name, media_type=_STATIC[name])


def _no_icon() -> Response:
    return Response(status_code=204)


class _Pages:
    def __init__(self, studio: Studio):
        self.studio, self.store, self.words = studio, studio.store, studio.words
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_PAGES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
        )

    def page(self, name: str, request: Request, status: int = 200, **values: Any) -> HTMLResponse:
        values |= {
            "w": self.words,
            "language": self.studio.language,
            "token": form_token(request),
            "rater": request.session.get("rater"),
        }
        return HTMLResponse(self.templates.get_template(f"{name}.html.jinja").render(values), status)

    def rater_of(self, request: Request) -> str:
        session = request.session
        if not session.get("rater") or (self.studio.password is not None and not session.get("has_password")):
            raise HTTPException(401)
        return session["rater"]

    def item_of(self, name: str) -> Item:
        if name not in self.studio.by_id:
            raise HTTPException(404)
        return self.studio.by_id[name]

    def show_error(self, request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code == 401:
            return RedirectResponse("/", 303)
        known = {404: "not_found", 422: "incomplete"}
        return PlainTextResponse(self.words(known.get(error.status_code, "refused")), error.status_code)

    def show_invalid(self, request: Request, error: RequestValidationError) -> Response:
        return PlainTextResponse(self.words("incomplete"), 422)

    def show_start(self, request: Request) -> Response:
        return self.page("start", request, needs_password=self.studio.password is not None, is_wrong=False)

    def start(
        self,
        request: Request,
        token: Annotated[str, Form()] = "",
        name: Annotated[str, Form()] = "",
        password: Annotated[str, Form()] = "",
    ) -> Response:
        check_form_token(request, token)
        name = " ".join(visible(name).split())[:_LONGEST_NAME]
        needs_password = self.studio.password is not None
        if not name or not check_password(self.studio.password, password):
            return self.page("start", request, 403, needs_password=needs_password, is_wrong=bool(name))
        request.session.update(rater=name, has_password=needs_password)
        return RedirectResponse("/rate", 303)

    def show_next(self, request: Request) -> Response:
        progress = self.studio.progress(self.rater_of(request))
        if progress.next_item:
            return RedirectResponse(f"/items/{progress.next_item}", 303)
        return self.page("done", request, progress=progress)

    def show_item(self, request: Request, name: str, marks: bool = False, reference: bool = False) -> Response:
        rater, item = self.rater_of(request), self.item_of(name)
        progress = self.studio.progress(rater)
        rating = progress.ratings.get(name)
        before, after = progress.neighbours(name)
        question = item.prompt[-1]["content"]
        answers = [
            {
                "html": marked_html(answer.text, question) if marks else answer_html(answer.text),
                "faults": faults(answer.text, answer.finish_reason) if marks else [],
            }
            for answer in self.studio.shown(item, rater, rating)
        ]
        return self.page(
            "item",
            request,
            item=item,
            prompt=[{"role": message["role"], "html": answer_html(message["content"])} for message in item.prompt],
            answers=answers,
            rating=rating,
            verdict=chosen_verdict(rating),
            scores=next(iter((rating.scores or {}).values()), {}) if rating else {},
            # a human reply would influence the rating
            reference=answer_html(item.reference) if item.reference and rating and not rating.skipped else None,
            reference_open=reference,
            marks=marks,
            rubric=read_rubric(self.studio.language),
            verdicts=VERDICTS,
            progress=progress,
            before=before,
            after=after,
            shown_at=time.time(),
        )

    def rate(self, request: Request, name: str, form: Annotated[RatingForm, Form()]) -> Response:
        rater, item = self.rater_of(request), self.item_of(name)
        check_form_token(request, form.token)
        earlier = next((rating for rating in self.store.ratings(rater) if rating.item == name), None)
        shown = [answer.id for answer in self.studio.shown(item, rater, earlier)]
        self.store.record(form.rating(item, rater, shown))
        return RedirectResponse(f"/items/{name}?reference=1" if form.action == "reference" else "/rate", 303)

    def undo(self, request: Request, token: Annotated[str, Form()] = "") -> Response:
        rater = self.rater_of(request)
        check_form_token(request, token)
        name = self.store.withdraw(rater)
        return RedirectResponse(f"/items/{name}" if name in self.studio.by_id else "/rate", 303)

    def show_results(self, request: Request) -> Response:
        progress = self.studio.progress(self.rater_of(request))
        if not progress.is_finished:  # names of systems and ratings by others would influence the rest
            return self.page("closed", request, progress=progress)
        results = rating_results(self.store.judgements())
        disputed = [
            (dispute, answer_html(dispute.prompt), [answer_html(answer["text"]) for answer in dispute.answers])
            for dispute in results.disputed
        ]
        return self.page(
            "results",
            request,
            results=results,
            tables=result_tables(results, self.words),
            disputed=disputed,
            exports=EXPORTS,
        )

    def export(self, request: Request, suffix: str) -> Response:
        if suffix not in EXPORTS:
            raise HTTPException(404)
        if not self.studio.progress(self.rater_of(request)).is_finished:
            return RedirectResponse("/results", 303)
        headers = {"Content-Disposition": f'attachment; filename="ratings{suffix}"'}
        content = export_bytes(self.store.judgements(), suffix)
        return Response(content, media_type=EXPORTS[suffix], headers=headers)
