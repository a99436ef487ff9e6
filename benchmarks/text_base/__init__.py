"""Which recipe makes the small base draw objects and scenes from text, under one budget."""
