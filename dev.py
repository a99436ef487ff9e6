"""One file to try and check Subject-Diffusion with: `python dev.py demo | generate | serve | test`.

Needs nothing but Python 3.10 or newer and a package index; everything it makes goes to `.dev/`.
Set COMFYUI_PATH to use a ComfyUI of your own, and COMFYUI_PYTHON to use its Python as it is.
"""

import sys

if sys.version_info < (3, 10):  # noqa: UP036 (only a clear sentence tells an old Python's user)
    sys.exit("dev.py needs Python 3.10 or newer, this is " + sys.version.split()[0] + ".")

from devtools.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
