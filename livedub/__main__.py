"""`python -m livedub`: the same as the command `livedub`."""

from livedub.cli import main

main()
