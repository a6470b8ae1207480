"""`python -m ops` is `freshet`."""

from ops.cli import main

main()
