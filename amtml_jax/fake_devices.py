"""Fake devices of one CPU, which wait for each other in XLA's threads.

XLA gives a CPU as many threads as it has cores or devices, whichever are more.
A collective holds one thread a device until all devices are there, and a
program may be in several at once: with too few threads each waits for one that
nobody runs, and XLA aborts the process after 40 seconds.
"""

from __future__ import annotations

import os
import re

FLAG = "--xla_force_host_platform_device_count"
# Collectives that may be under way at once, of all programs in flight.
AT_ONCE = 16


def make_room() -> None:
  """Gives XLA's CPU threads enough for them; before any device is used.

  XLA takes their number from NPROC, which may already ask for more.
  """
  asked = re.findall(rf"{FLAG}=(\d+)", os.environ.get("XLA_FLAGS", ""))
  count = int(asked[-1]) if asked else 1
  if count > 1:
    before = os.environ.get("NPROC", "")
    there = int(before) if before.isdecimal() else 0
    os.environ["NPROC"] = str(max(there, AT_ONCE * count))
