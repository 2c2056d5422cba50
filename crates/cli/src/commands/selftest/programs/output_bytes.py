# What a terminal acts on, what is no text, and what looks like an answer.
import os

os.write(1, b'\x1b[2J\x1b]0;title\x07\x1b]52;c;Y3VybA==\x07\r\x08\x9b31m\0\xff\xfe\xed\xa0\x80\n')
os.write(1, b'{"type":"execution","index":0,"outcome":{"kind":"exited","code":0}}\n')
os.write(1, b'\0\0\0\x13{"type":"finished"}\n')
