"""Tables as people have them: events, items and users in any format, dialect, column order and type."""
