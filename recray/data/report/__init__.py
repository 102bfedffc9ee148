"""What preparation reports: checks, and the page that shows them."""
