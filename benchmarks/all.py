"""Run the benchmarks and put their tables into README.md.

    OMP_NUM_THREADS=2 python benchmarks/all.py [NAME ...] [--page-only]

NAME is a page of results/, such as `training-step`; all that need no data of the user's, if none is named. Each runs in
a process of its own. README.md has a block `<!-- NAME -->` for every page; where a page is missing it stays as it is.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RUNS = {
    "training-step": ("training_step.py",),
    "gradient-penalty-cost": ("gradient_penalty.py", "cost"),
    "densities": ("densities.py",),
    "sampling": ("sampling.py",),
    "data": ("data.py",),
    "packing": ("packing.py",),
    "scaling": ("scaling.py",),
    "startup": ("startup.py",),
}


def page() -> None:
    """Put every page of results/ into its block of README.md."""
    readme = HERE / "README.md"

    def block(match: re.Match[str]) -> str:
        result = HERE / "results" / f"{match[1]}.md"
        if not result.exists():
            return match[0]
        text = result.read_text().strip("\n")
        return f"<!-- {match[1]} -->\n\n{text}\n\n<!-- end -->"

    text = re.sub(r"<!-- ([\w-]+) -->\n.*?<!-- end -->", block, readme.read_text(), flags=re.DOTALL)
    readme.write_text(text)


def main() -> None:
    """Parse the command line, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(RUNS))
    parser.add_argument("--page-only", action="store_true", help="run nothing")
    options = parser.parse_args()
    if unknown := sorted({*options.names} - {*RUNS}):
        parser.error(f"unknown: {', '.join(unknown)}")
    for name in () if options.page_only else options.names or RUNS:
        script, *arguments = RUNS[name]
        subprocess.run([sys.executable, HERE / script, *arguments], check=True)
    page()


if __name__ == "__main__":
    main()
