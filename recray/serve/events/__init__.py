"""What happens while a version serves: told over HTTP, kept in order, and known to every replica."""
