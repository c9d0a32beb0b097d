"""Measurements that compare, in one run, and print ratios or rates with their error."""
