"""The pictures of docs/statistics.md and the table of docs/assumptions.md, made by the code from a seed."""
