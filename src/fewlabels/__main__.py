"""``python -m fewlabels`` is the `fewlabels` command."""

import sys

from fewlabels.book.cli import main

sys.exit(main())
