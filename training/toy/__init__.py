"""The small model of this repository: its world, its encoders, its recipe for the common loop."""
