# Ignores what a shell can ignore, and so do those it starts.
trap '' HUP INT QUIT TERM PIPE ALRM USR1 USR2 CHLD TSTP TTIN TTOU
while :; do sleep 1000 & wait; done
