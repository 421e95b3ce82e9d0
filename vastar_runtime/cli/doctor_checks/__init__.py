"""What ``vastar-runtime doctor`` looks at, one file for each family of checks.

``finding`` (what a check says), ``bounded`` (a look that ends in time, whatever hangs), ``circumstances`` (what checks
look at: variables, settings, the daemon's answer) and ``files`` (looks at what lies at a path) are the ground; a check
is a function from circumstances to findings. ``processes`` looks at /proc, ``over_tcp`` asks on TCP, and ``restarting``
says how a daemon can be started again as it was. ``plan`` lists all of them; ``request`` sends two
requests through a daemon, with what ``workshop`` starts, and ``keeper`` ends when the doctor is killed.
"""
