"""The language: what a team writes, and what is wrong with it."""
