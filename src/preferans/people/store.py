"""The database of ratings: one SQLite file, which several raters and processes may write at once."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import sqlalchemy as sa

from ..errors import PreferansError
from .items import Item, RatedAnswer

_TABLES = sa.MetaData()
_SETTINGS = sa.Table("settings", _TABLES, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))
_ITEMS = sa.Table(
    "items",
    _TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("mode", sa.Text, nullable=False),
    sa.Column("content", sa.JSON, nullable=False),
)
_RATINGS = sa.Table(
    "ratings",
    _TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("item", sa.Text, sa.ForeignKey("items.id"), nullable=False),
    sa.Column("rater", sa.Text, nullable=False),
    sa.Column("shown", sa.JSON, nullable=False),  # ids of the answers, from left to right
    sa.Column("verdict", sa.Text),
    sa.Column("scores", sa.JSON(none_as_null=True)),
    sa.Column("thumbs", sa.JSON(none_as_null=True)),
    sa.Column("comment", sa.Text),
    sa.Column("seconds", sa.Float),
    sa.Column("marks", sa.Boolean, nullable=False),
    sa.Column("rated_at", sa.Text, nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False, default=False),
    sa.Index("ratings_of_rater", "rater", "item"),
)
# Numbers of the ratings that count: the last of each rater of each item.
_COUNTING = (
    sa.select(sa.func.max(_RATINGS.c.number)).where(~_RATINGS.c.withdrawn).group_by(_RATINGS.c.rater, _RATINGS.c.item)
)
# Step N brings a file of version N + 1 to version N + 2. New files get the tables above.
MIGRATIONS: list[Callable[[sa.Connection], None]] = []


@dataclass
class Rating:
    """
    One rater's judgement of an item.

    Attributes:
        item (`str`), rater (`str`): Id of the item, and name of the rater.
        shown (`list[str]`): Ids of the answers, from left to right.
        verdict (`str` or `None`), scores (`dict` or `None`), thumbs (`dict` or `None`), comment (`str` or `None`):
            As in docs/ratings.md. An item that the rater skipped has neither scores nor a verdict.
        seconds (`float` or `None`): Time that the rater took.
        marks (`bool`): Whether the text was marked.
        rated_at (`str`): Time in ISO 8601; the present if it is empty.
    """

    item: str
    rater: str
    shown: list[str]
    verdict: str | None = None
    scores: dict[str, dict[str, int]] | None = None
    thumbs: dict[str, str] | None = None
    comment: str | None = None
    seconds: float | None = None
    marks: bool = False
    rated_at: str = ""

    def __post_init__(self):
        self.rated_at = self.rated_at or datetime.now(UTC).isoformat(timespec="milliseconds")

    @property
    def skipped(self) -> bool:
        """Whether the rater skipped the item."""
        return self.verdict is None and not self.scores


class RatingStore:
    """
    A file of items and their ratings. Ratings are only added, so that every change stays in the file.

    A rating is on the disk when [`record`] returns. Items stay as they were when they were added.

    Args:
        path (`str` or `Path`): SQLite file, created if it is missing.

    Raises:
        [`PreferansError`]: if the file is not such a database, or of a newer version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.is_dir():
            raise PreferansError(f"--ratings {path}: this is a folder; name a file, such as ratings/ratings.sqlite.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.engine = sa.create_engine(f"sqlite:///{self.path}", connect_args={"timeout": 30})
        sa.event.listen(self.engine, "connect", _set_up_connection)
        try:
            with self.engine.begin() as connection:
                _migrate(connection, self.path)
        except sa.exc.DatabaseError as error:
            raise PreferansError(
                f"--ratings {path}: this is not a database of ratings ({error.orig}). Name another file; to rate answers, give their "
                "files without --ratings."
            ) from None

    @property
    def secret(self) -> str:
        """Key of the raters' session cookies, which stay valid after a restart."""
        with self.engine.begin() as connection:
            connection.execute(
                sa.insert(_SETTINGS).prefix_with("OR IGNORE").values(key="secret", value=token_urlsafe(32))
            )
            return connection.execute(sa.select(_SETTINGS.c.value).where(_SETTINGS.c.key == "secret")).scalar_one()

    def add_items(self, items: Sequence[Item]) -> None:
        """
        Add the items that the file does not have.

        Raises:
            [`PreferansError`]: if a prompt or an answer has changed since it was added.
        """
        added = self.items()
        prompts = {item.prompt_id: item.prompt for item in added}
        known = {(item.prompt_id, answer.model): answer.id for item in added for answer in item.answers}
        for item in items:
            if prompts.get(item.prompt_id, item.prompt) != item.prompt:
                raise PreferansError(
                    f"--ratings {self.path}: another prompt with the id {item.prompt_id} was rated here. Name another file of ratings for "
                    "answers to other prompts."
                )
            for answer in item.answers:
                if known.get((item.prompt_id, answer.model), answer.id) != answer.id:
                    raise PreferansError(
                        f"--ratings {self.path}: the answer of {answer.model} to the prompt {item.prompt_id} has changed since it was "
                        "rated here. Name another file of ratings, or another --label when you generate answers."
                    )
        rows = [{"id": item.id, "mode": item.mode, "content": asdict(item)} for item in items]
        with self.engine.begin() as connection:
            if rows:
                connection.execute(sa.insert(_ITEMS).prefix_with("OR IGNORE"), rows)

    def items(self) -> list[Item]:
        """Return all items, in the order in which they were added."""
        with self.engine.connect() as connection:
            contents = connection.scalars(sa.select(_ITEMS.c.content).order_by(_ITEMS.c.number)).all()
        return [
            Item(**content | {"answers": tuple(RatedAnswer(**answer) for answer in content["answers"])})
            for content in contents
        ]

    def record(self, rating: Rating) -> None:
        """Add a rating; the rater's earlier one of the item no longer counts."""
        with self.engine.begin() as connection:
            connection.execute(sa.insert(_RATINGS).values(**asdict(rating)))

    def withdraw(self, rater: str) -> str | None:
        """
        Take back a rater's last rating, so that the one before it counts again.

        Returns:
            `str` or `None`: id of its item; `None` if the rater has no rating.
        """
        last = sa.select(sa.func.max(_RATINGS.c.number)).where(_RATINGS.c.rater == rater, ~_RATINGS.c.withdrawn)
        update = sa.update(_RATINGS).where(_RATINGS.c.number == last.scalar_subquery()).values(withdrawn=True)
        with self.engine.begin() as connection:
            return connection.scalar(update.returning(_RATINGS.c.item))

    def ratings(self, rater: str | None = None) -> list[Rating]:
        """Return the ratings that count: the last of each rater of each item, in the order in which they were given."""
        columns = [column for column in _RATINGS.c if column.name not in ("number", "withdrawn")]
        query = sa.select(*columns).where(_RATINGS.c.number.in_(_COUNTING)).order_by(_RATINGS.c.number)
        if rater is not None:
            query = query.where(_RATINGS.c.rater == rater)
        with self.engine.connect() as connection:
            return [Rating(**row) for row in connection.execute(query).mappings()]

    def rated_by(self) -> dict[str, set[str]]:
        """Return the names of those who rated each item, by its id, without those who skipped it."""
        is_rated = _RATINGS.c.verdict.is_not(None) | _RATINGS.c.scores.is_not(None)
        query = sa.select(_RATINGS.c.item, _RATINGS.c.rater).where(_RATINGS.c.number.in_(_COUNTING), is_rated)
        names: dict[str, set[str]] = {}
        with self.engine.connect() as connection:
            for item, rater in connection.execute(query):
                names.setdefault(item, set()).add(rater)
        return names

    def judgements(self) -> list[dict]:
        """Return the ratings that count, in the format of docs/ratings.md."""
        known = {item.id: item for item in self.items()}
        return [_judgement(known[rating.item], rating) for rating in self.ratings()]


def _set_up_connection(connection: sqlite3.Connection, _: Any) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: sa.Connection, path: Path) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # two processes may open a new file at once
    version = connection.exec_driver_sql("PRAGMA user_version").scalar() or 0
    newest = len(MIGRATIONS) + 1
    if version > newest:
        raise PreferansError(
            f"--ratings {path}: the file has version {version}, and this program reads versions up to {newest}. Update Preferans."
        )
    if version == 0:
        if sa.inspect(connection).get_table_names():
            raise PreferansError(
                f"--ratings {path}: this database was not written by scripts/rate.py. Name another file."
            )
        _TABLES.create_all(connection)
    for step in MIGRATIONS[version - 1 :] if version else ():
        step(connection)
    connection.exec_driver_sql(f"PRAGMA user_version = {newest}")


def _judgement(item: Item, rating: Rating) -> dict:
    answers = {answer.id: answer for answer in item.answers}
    row = {
        "rater": rating.rater,
        "prompt_id": item.prompt_id,
        "prompt": item.prompt,
        "message_tree_id": item.message_tree_id,
        "answers": [{"id": name, "model": answers[name].model, "text": answers[name].text} for name in rating.shown],
        "verdict": rating.verdict,
        "scores": rating.scores,
        "thumbs": rating.thumbs,
        "rated_at": rating.rated_at,
        "comment": rating.comment,
        "seconds": rating.seconds,
        "marks": rating.marks,
    }
    return {key: value for key, value in row.items() if value is not None or key in ("verdict", "scores")}
