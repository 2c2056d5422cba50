# One file as large as it gets.
dd if=/dev/zero of=/tmp/filler bs=1M 2>&1 | grep -o 'No space left on device'
