"""The command in a process whose disk is full after some saves, if it is first.

python -m tests.filling distill --process_id=0 ...
"""

import resource
import sys

from amtml_jax import checkpoint
from tests import hasty

SAVES = 1


def main(argv):
  save, left = checkpoint.Checkpoints.save, SAVES

  def filling(self, *args):
    nonlocal left
    self.wait()
    left -= 1
    if left < 0 and "--process_id=0" in argv:
      hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
      resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, hard))
    save(self, *args)

  checkpoint.Checkpoints.save = filling
  return hasty.main(argv)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
