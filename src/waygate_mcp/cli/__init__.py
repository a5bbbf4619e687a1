"""The command line `waygate`: one module for each command, registered by name in `main.py`.

Exit codes: 0 done, 1 the thing checked is not well, 2 wrong use or configuration, 3 the server could
not be reached. Results go to standard output, everything else to standard error.
"""
