"""What an application logged, as data: outcomes of what was shown, and what may be learnt from them."""
