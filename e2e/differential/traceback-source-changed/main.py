# The source is re-read from disk when the traceback is printed.
with open(__file__, encoding="utf-8") as f:
    text = f.read()
with open(__file__, "w", encoding="utf-8") as f:
    f.write(text.replace("needle", "NEEDLE-REPLACED"))
raise ValueError("see the line above")  # needle
