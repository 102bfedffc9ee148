"""Versions on live traffic: who gets which, what is learnt of them, and what follows from that."""
