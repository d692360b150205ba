"""The form of a rating, and what it means."""

import time
from typing import Annotated, Literal

from fastapi import HTTPException
from pydantic import BaseModel, Field

from ..data.ratings import CRITERIA, TIE
from .items import Item
from .store import Rating

# Verdicts of the form, in the order of their keys.
VERDICTS = ("left", "right", "both_good", "both_bad")
LONGEST_COMMENT = 10_000
_Score = Annotated[int, Field(ge=1, le=5)]


class RatingForm(BaseModel):
    """A rating as the form sends it."""

    token: str = ""
    action: Literal["save", "reference", "skip"] = "save"
    shown_at: float = Field(0.0, ge=0)
    marks: bool = False
    verdict: Literal["left", "right", "both_good", "both_bad"] | None = None
    relevance: _Score | None = None
    clarity: _Score | None = None
    completeness: _Score | None = None
    originality: _Score | None = None
    style: _Score | None = None
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
