"""What `dev.py` is made of: set-up, ComfyUI's server, its API client, generation, the checks.

Standard library only, with one exception: `contact_sheet.py` needs Pillow and is run with the
Python of the environment that `environment.py` makes.
"""
