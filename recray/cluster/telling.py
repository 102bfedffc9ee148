"""Notices of a cluster to people, by RECRAY_NOTIFY: one that cannot be sent harms nothing."""

import logging
import os

from recray.redaction import NOTIFY, hidden

log = logging.getLogger(__name__)


def tell(title: str, text: str) -> None:
    log.info("%s: %s", title, text)
    if not (addresses := os.environ.get(NOTIFY, "")):
        return
    try:
        from recray.track.notices import opened

        opened(addresses).notify(title=title, body=text)
    except Exception as error:  # of a library that knows a hundred services
        log.warning("a notice could not be sent: %s", hidden(str(error)))
