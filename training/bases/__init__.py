"""The text-to-image models that training starts from, and their encoders."""
