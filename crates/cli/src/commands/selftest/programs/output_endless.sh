# Output without an end.
exec cat /dev/zero
