"""`python -m controller.cli`: the same as `penstock`."""

from controller.cli import main

main()
