"""When the request is made."""

from recray.features.past import DAY_S
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import Known

CONTEXT = Group[Known]("context")


@CONTEXT.feature("hours")
def hour_of_day(known: Known) -> Value:
    """Hour of the request, UTC, 0 to 23."""
    return known.time % DAY_S // 3600


@CONTEXT.feature("days")
def day_of_week(known: Known) -> Value:
    """Day of the request, UTC, Monday 0 to Sunday 6."""
    return (known.time // DAY_S + 3) % 7
