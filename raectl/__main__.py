"""`python -m raectl`."""

from raectl.cli.main import main

main()
