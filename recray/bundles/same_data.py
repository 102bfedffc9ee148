"""Whether a published model kept from learning what it is now to be asked for."""

from recray.config import ConfigError
from recray.data.events.dataset import Dataset
from recray.data.events.examples import protocol
from recray.data.events.splits import Split
from recray.store import Bundle


def require_same_data(bundle: Bundle, dataset: Dataset, split: Split) -> None:
    """
    Raises:
        ConfigError: other events were kept from it than this split keeps; says in what they differ.
    """
    card = bundle.manifest.card
    differ = card.held_out_otherwise(protocol(dataset, split, "test")) if card else ["under no protocol"]
    if differ:
        raise ConfigError(
            f"{bundle.reference} was trained otherwise than is asked here: {'; '.join(differ)}. It may have "
            "learnt what it is asked for: give the --data that it was trained with, train it again on this "
            "data, or name a version that was (`recray versions` lists them)"
        )
