"""The judge: pure statistics on counts, from counter values to verdicts."""
