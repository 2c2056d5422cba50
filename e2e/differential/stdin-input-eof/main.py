# input() at the end of an empty stdin: EOFError with the prompt on stdout.
input("prompt> ")
