"""The command in a process that waits five seconds for the others' saves.

python -m tests.hasty distill --process_id=0 ...
"""

import sys

from amtml_jax import checkpoint, cli


def main(argv):
  checkpoint.PATIENCE = 5
  return cli.main(argv)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
