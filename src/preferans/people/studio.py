"""What a rating page shows to whom: its items, and each rater's progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .items import Item, RatedAnswer, queue, shown_answers
from .store import Rating, RatingStore
from .words import people_words


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

    def shown(self, item: Item, rater: str, rating: Rating | None) -> tuple[RatedAnswer, ...]:
        """Return an item's answers from left to right, as the rater saw them before if the item was rated."""
        answers = {answer.id: answer for answer in shown_answers(item, rater, self.seed)}
        return tuple(answers[name] for name in (rating.shown if rating else answers))


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
    def is_finished(self) -> bool:
        """Whether all items are rated."""
        return self.next_item is None and not self.skipped

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
