"""TinyBench: how well held-out subjects are recognised in what the tiny model generates."""
