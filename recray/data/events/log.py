"""The events of a data set as the point-in-time log that features and histories are read from."""

from recray.data.events.dataset import Dataset
from recray.features.items import item_features
from recray.features.log import EventLog


def event_log(dataset: Dataset) -> EventLog:
    """All events; what is asked strictly before a time sees nothing of that time or later."""
    return EventLog(
        dataset.user_ids_N,
        dataset.item_ids_N,
        dataset.ratings_N,
        dataset.timestamps_N,
        num_users=dataset.num_users,
        num_items=dataset.num_items,
        items=item_features(dataset.items),
    )
