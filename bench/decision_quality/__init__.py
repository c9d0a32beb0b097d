"""Penstock's judge against other rules and the best possible one, on the same made-up traffic."""
