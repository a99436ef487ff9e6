"""HiFi Tuner's table 2 on the small model, and the sweep of w_s."""
