"""Which training of the small model's decoder removes its grid and keeps subjects recognised."""
