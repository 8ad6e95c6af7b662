"""Pages of a list: the query of a request, and the response with the cursor of the next page."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Self, TypeVar

from pydantic import AfterValidator, Field, WithJsonSchema
from typing_extensions import TypeAliasType

from api.http.fields import Digits, Query, invalid
from db import pagination
from db.core.json_model import JsonModel
from db.pagination import Page

Row = TypeVar("Row")
Item = TypeVar("Item")


def _cursor(value: str) -> str:
    try:
        pagination.Cursor.parse(value)
    except ValueError:
        raise invalid("is not a cursor of this list") from None
    return value


Cursor = TypeAliasType(
    "Cursor",
    Annotated[
        str,
        AfterValidator(_cursor),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": "^[A-Za-z0-9_-]{32}$",
                "description": "The `nextCursor` of the previous page. Opaque.",
                "examples": ["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"],
            }
        ),
    ],
)


class PageQuery(Query):
    """The query of a list."""

    limit: Annotated[int, Digits] = Field(20, ge=1, le=100)
    cursor: Cursor | None = None

    @property
    def after(self) -> pagination.Cursor | None:
        """The last row of the previous page; None for the first page."""
        return pagination.Cursor.parse(self.cursor) if self.cursor else None


class Pagination(JsonModel):
    """The position of a page in its list. `nextCursor` is opaque, and null on the last page."""

    limit: Annotated[int, Field(ge=1, le=100, examples=[20])]
    next_cursor: Annotated[str | None, Field(examples=["AAZJtfEiwEgBmyxefUp8MZpWD20MOhsu"])]


class ResponsePage(JsonModel, Generic[Item]):
    """One page of a list. Each list has a subclass, whose name is the schema's: `PaymentPage`."""

    items: list[Item]
    pagination: Pagination

    @classmethod
    def of(cls, rows: Page[Row], build: Callable[[Row], Item], **more: Any) -> Self:
        """Returns the page with one item for each row, from `build`; `more` are fields of the subclass."""
        position = Pagination(limit=rows.limit, next_cursor=rows.next_cursor)
        return cls(items=[build(row) for row in rows.items], pagination=position, **more)
