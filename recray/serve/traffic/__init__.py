"""Who is answered by which version, what that shows, and what follows from it."""
