"""`python -m burnish` is `burnish`."""

from burnish.cli.main import main

main()
