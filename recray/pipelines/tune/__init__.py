"""A search's life: what is searched, what was tried, who proposes, what is drawn, and the winner."""
