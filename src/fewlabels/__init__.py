"""Learning with few labels: a replication report that runs."""

import getpass
import os

__version__ = "0.1.0"

try:
    getpass.getuser()
except (OSError, KeyError):
    # torch asks for a name while it is imported, and a container's user may have no account.
    os.environ["LOGNAME"] = "nobody"
