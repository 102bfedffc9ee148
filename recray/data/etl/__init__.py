"""Ray Data as the executor of reads."""
