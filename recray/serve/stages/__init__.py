"""The stages of a recommendation, a file each: they know neither HTTP nor Ray nor raw ids.

A stage takes the state of a request and returns the next one (``state``). Their list, and the options that
choose it, stand in ``listed``: a business rule is a file here and a line there.
"""
