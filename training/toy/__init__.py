"""The small model of this repository: its world, its encoders, and its recipe for the common loop."""
