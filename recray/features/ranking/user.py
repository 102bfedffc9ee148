"""What is known of the user."""

from recray.features.past import mean
from recray.features.ranking.feature import Group, Value
from recray.features.ranking.known import Known

USER = Group[Known]("user")


@USER.feature("events")
def user_events(known: Known) -> Value:
    """Events of the user so far."""
    return known.user.events_K


@USER.feature("events")
def user_events_7d(known: Known) -> Value:
    """Events of the user since midnight UTC 7 days ago."""
    return known.user.events_since(7)


@USER.feature("events")
def user_events_30d(known: Known) -> Value:
    """Events of the user since midnight UTC 30 days ago."""
    return known.user.events_since(30)


@USER.feature("rating")
def user_mean_rating(known: Known) -> Value:
    """Mean rating that the user gave so far."""
    return mean(known.user.rating_sum_K, known.user.events_K)


@USER.feature("days")
def user_days_since_last(known: Known) -> Value:
    """Time since the user's last event."""
    return known.user.days_since(known.user.last_time_K)


@USER.feature("days")
def user_days_since_first(known: Known) -> Value:
    """Time since the user's first event."""
    return known.user.days_since(known.user.first_time_K)
