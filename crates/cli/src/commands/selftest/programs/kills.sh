# Kills and stops whom it can.
kill -STOP 1 -1 2>/dev/null
kill -KILL 1 2>/dev/null
kill -KILL -1 2>/dev/null
echo unharmed
