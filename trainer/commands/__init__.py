"""Commands of `trainer` that are big enough for a file of their own."""
