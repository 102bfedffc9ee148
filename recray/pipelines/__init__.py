"""What a job calls: from data to a published version, from models to a table, from a version to another."""
