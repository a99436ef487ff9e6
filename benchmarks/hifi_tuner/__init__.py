"""How near HiFi Tuner's inversion comes to a picture, and what replacement leaves of it."""
