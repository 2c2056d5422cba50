# Nothing but this comment: no output, exit code 0.
