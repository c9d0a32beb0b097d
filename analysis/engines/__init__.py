"""Other people's tests behind one small interface, to compare with; and their formulas as plain functions."""
