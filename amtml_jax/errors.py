"""The user's mistakes: one sentence each, no traceback, exit code 2."""


class UserError(Exception):
  """Something that the user can mend; the message names it and the fix."""
