"""How whatever a person looks at is drawn: one palette, one page, one way to make a plot.

Pages are one file of HTML, light or dark as the reader's system is, and need no network.
"""
