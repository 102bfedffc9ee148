"""Which column of a table is the user, the item, the rating..., by the names that people give them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from recray.config import nearest
from recray.schema import DataError

Role = Literal["user", "item", "rating", "timestamp", "event_type", "session"]
NOT_THERE = ""
"""Given for a role: the table has no such column, whatever its columns are called."""

# Compared in lower case without blanks, underscores, hyphens and dots.
ALIASES: dict[Role, tuple[str, ...]] = {
    "user": ("user", "userid", "uid", "customer", "customerid", "client", "clientid", "reviewerid", "visitor",
             "visitorid", "member", "memberid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "product", "productid", "sku", "article",
             "articleid", "asin", "book", "bookid", "track", "trackid", "song", "songid", "artist",
             "artistid"),
    "rating": ("rating", "score", "stars", "overall", "ratingvalue", "weight", "plays", "playcount",
               "listens", "count", "quantity", "qty"),
    "timestamp": ("timestamp", "time", "ts", "unixtime", "unixreviewtime", "eventtime", "datetime", "date",
                  "createdat"),
    "event_type": ("eventtype", "event", "action", "actiontype", "behavior", "behaviour", "behaviortype",
                   "eventname"),
    "session": ("session", "sessionid", "usersession", "visit", "visitid"),
}  # fmt: skip
# Taken where there is none of the above, the earlier one first: GA4 has a user_pseudo_id beside user_id, and
# a date beside its time.
LATER_ALIASES: dict[Role, tuple[str, ...]] = {
    "user": ("userpseudoid", "anonymousid", "fullvisitorid", "accountid", "buyerid", "shopperid",
             "customernumber", "customeremail", "useremail", "deviceid", "cookieid"),
    "item": ("productsku", "itemsku", "stockcode", "productcode", "variantid", "isbn", "contentid", "videoid",
             "newsid", "gameid", "recipeid", "businessid", "listingid"),
    "rating": ("bookrating", "reviewscore", "ratingscore"),
    "timestamp": ("eventtimestamp", "eventtimeutc", "servertime", "unixtimestamp", "createdatutc",
                  "orderedat", "purchasedat", "viewedat", "occurredat", "ordertime", "reviewtime",
                  "datecreated", "orderdate", "invoicedate", "purchasedate", "reviewdate", "eventdate"),
    "event_type": (),
    "session": (),
}  # fmt: skip
_TIME_NAME = re.compile(r"(?i:(^|[_\s.-])(at|time|timestamp|datetime|date))$|[a-z](At|Time|Timestamp|Date)$")
_OTHER_TIMES = re.compile(r"(?i)birth|release|publish|sign_?up|regist|expir|deliver|ship|modif|updat")
"""Of the user or the item, or from after the event."""
ITEM_COLUMNS = frozenset(
    ("category", "categoryid", "categorycode", "brand", "price", "title", "genre", "genres", "description",
     "productname", "itemname")
)  # fmt: skip
"""Columns that say something of the item, where they stand beside its events."""


def plain_name(name: str) -> str:
    return name.strip().lower().replace("_", "").replace(" ", "").replace("-", "").replace(".", "")


def names_columns(fields: Sequence[str]) -> bool:
    """Whether a first line is a header: two of its fields are usual names."""
    known = {alias for table in (ALIASES, LATER_ALIASES) for aliases in table.values() for alias in aliases}
    return sum(plain_name(field) in known for field in fields) >= 2


def only_time(names: Sequence[str]) -> str | None:
    """The only column called as times are that says not when the user or the item came to be."""
    named = [name for name in names if _TIME_NAME.search(name) and not _OTHER_TIMES.search(name)]
    return named[0] if len(named) == 1 else None


def columns_by_role(
    names: Sequence[str],
    given: Mapping[Role, str | None],
    roles: Sequence[Role],
    *,
    label: str,
    partitions: Collection[str] = (),
) -> dict[Role, str]:
    """The column of each role that the table has; users and items must be there.

    Args:
        given: the column a person named for a role; ``NOT_THERE``: none is meant.
        partitions: those of the names that stand in the path; looked at where no other is of that role.

    Raises:
        DataError: a named column is not there, none for the user or the item is, or two could be it.
    """
    found: dict[Role, str] = {}
    for role in roles:
        column = _column(role, names, given.get(role), label, partitions)
        if column is not None:
            found[role] = column
        elif role in ("user", "item") and role in given:
            raise DataError(
                f"{label}: no column for the {role} (it has {', '.join(names)}): "
                f"name the column with {role}=, or call it {role}_id"
                + ("; is the separator right?" if len(names) == 1 else "")
                + _where_positions(names, role)
                + _where_listed(names, role)
            )
    for role, column in found.items():
        other = next(each for each, name in found.items() if name == column)
        if other != role:
            raise DataError(
                f"{label}: column {column!r} is named for the {other} and for the {role}: name two"
            )
    return found


def _where_positions(names: Sequence[str], role: str) -> str:
    if any(any(letter.isalpha() for letter in name) for name in names):
        return ""
    return f"; where the first line is data already, give positions: {role}=1"


def _where_listed(names: Sequence[str], role: str) -> str:
    listed = next(
        (name for name in names if role == "item" and plain_name(name) in ("items", "products")), None
    )
    if listed is None:
        return ""
    return f"; where {listed} lists the items of an event, write a row for each (in SQL: UNNEST({listed}))"


def _column(
    role: Role, names: Sequence[str], wanted: str | None, label: str, partitions: Collection[str]
) -> str | None:
    if wanted == NOT_THERE:
        return None
    if wanted is not None:
        if wanted not in names:
            if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
                return names[int(wanted) - 1]
            raise DataError(f"{label}: no column {wanted!r} for the {role}{nearest(wanted, names)}")
        return wanted
    own, in_path = ([n for n in names if (n in partitions) == there] for there in (False, True))
    tiers = (ALIASES[role], *((alias,) for alias in LATER_ALIASES[role]))
    found = ([n for n in each if plain_name(n) in tier] for each in (own, in_path) for tier in tiers)
    fitting = next(filter(None, found), [])
    if len(fitting) > 1:
        others = " and ".join(repr(name) for name in fitting)
        raise DataError(
            f"{label}: the columns {others} could each be the {role}: say which, e.g. {role}={fitting[0]}"
        )
    return fitting[0] if fitting else None
