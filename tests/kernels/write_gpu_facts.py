"""Writes what can be known of the Triton kernels without a GPU: `python tests/kernels/write_gpu_facts.py -o FOLDER`.

`--only TEXT` takes the problems whose name holds it, `--missing` those that FOLDER doesn't tell of yet; what it says of
the others stays. A problem takes up to a minute on a quiet core: every tile is compiled for three devices, and the
programs of one image are interpreted.
"""

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu_facts import sectors
from gpu_facts.document import accesses_of, compiled_facts, document, load, row_of, save, traffic_facts
from gpu_facts.problems import PROBLEMS
from interpreting import start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--missing", action="store_true")
    arguments = parser.parse_args()
    problems = [problem for problem in PROBLEMS if arguments.only in problem.name]
    if not problems:
        parser.error(f"no problem's name holds {arguments.only!r}; there are: {', '.join(p.name for p in PROBLEMS)}")
    os.environ["TRITON_INTERPRET"] = "1"  # of the child, which imports Triton anew
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start, (1, True))
    pool.submit(abs, 0).result()
    del os.environ["TRITON_INTERPRET"]
    rows = {row["problem"]: row for row in load(arguments.output)["rows"]}
    if arguments.missing:
        problems = [problem for problem in problems if problem.name not in rows]
    with pool:
        for problem in problems:
            tiles, traffic = compiled_facts(problem), None
            if problem.interpreted:
                counted = pool.submit(sectors.of_programs, problem, tiles[0]["tile"], accesses_of(problem)).result()
                traffic = traffic_facts(problem, counted)
            rows[problem.name] = row_of(problem, tiles, traffic)
            save(document([rows[one.name] for one in PROBLEMS if one.name in rows]), arguments.output)
            print(problem.name, file=sys.stderr)


if __name__ == "__main__":
    main()
