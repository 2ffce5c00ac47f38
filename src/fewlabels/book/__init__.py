"""The book: its notebooks executed, frozen, checked, rendered, and the ``fewlabels`` command."""
