"""What bundles are called: the data set, and what the bundle is to it."""

import re


def bundle_name(data_name: str, role: str) -> str:
    """``<data>-<role>``; letters that a bundle's name cannot have become '-'."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', data_name).lstrip('._-') or 'data'}-{role}"
