"""What a wheel carries besides the package: chapters, profiles, what pages are made with."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = ("chapters", "params", "styles", "_quarto.yml", "references.bib", "index.qmd")


class WithChapters(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return  # The checkout itself is the package's home.
        home, target = Path(__file__).parent, Path(self.build_lib, "fewlabels", "carried")
        for name in CARRIED:
            source = home / name
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                left = shutil.ignore_patterns(".ipynb_checkpoints", "*_files", "*.html")
                shutil.copytree(source, target / name, ignore=left, dirs_exist_ok=True)
            else:
                shutil.copy(source, target / name)


setup(cmdclass={"build_py": WithChapters})
