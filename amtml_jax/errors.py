"""What ends a command: one sentence each, no traceback, its own exit code."""


class Stop(Exception):  # noqa: N818  (some of them are no errors)
  """Ends the command with its message and `exit_code`."""

  exit_code = 1


class UserError(Stop):
  """Something that the user can mend; the message names it and the fix."""

  exit_code = 2


class DivergedError(Stop):
  """The loss is no longer a number; the last checkpoint is good."""


class InterruptedRun(Stop):
  """Asked to stop; the state is saved, the same command goes on."""

  exit_code = 75


class DamagedError(UserError):
  """Files are not what was written; an older copy may do."""


class LostProcessError(Stop):
  """Another process of the run is gone; the last checkpoint is whole."""

  exit_code = 75


class NotSavedError(Stop):
  """Something could not be written; what was saved before is whole."""


class Terminated(BaseException):
  """SIGTERM where no step is in flight.

  No Exception, as KeyboardInterrupt is none: what handles errors must not take
  it for one.
  """

  exit_code = InterruptedRun.exit_code
