"""The one error that is meant for the person at the keyboard."""


class UserError(ValueError):
    """Something the user can mend: the message names the thing and the remedy.

    The command line and notebooks print it as a single line; in Python it is an ordinary
    ``ValueError``.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, and papermill with it."""
        return [f"{type(self).__name__}: {self}"]


class DiskError(UserError):
    """The system refuses to read or to write a file; see `fewlabels.files`."""
