"""Takes the path of a short job, once."""

print("Hello from Python!")
