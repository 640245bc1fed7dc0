"""`python -m client`: the same as the command `livedub`."""

from client.cli import main

main()
