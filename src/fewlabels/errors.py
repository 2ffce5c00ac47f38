"""The one error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend: the message names the thing and the remedy.

    The command line prints it as a single line; in Python it is an ordinary ``ValueError``.
    """


class DiskError(UserError):
    """The system refuses to read or to write a file; see `fewlabels.files`."""
