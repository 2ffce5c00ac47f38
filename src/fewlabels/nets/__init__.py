"""Networks, one file each. A network is a ``backbone`` (images -> features) and a ``head``."""
