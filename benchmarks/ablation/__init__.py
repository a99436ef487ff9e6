"""The paper's table 3, repeated on TinyBench."""
