"""A file for each page of the console: ``show()`` draws it."""
