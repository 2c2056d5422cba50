# code.interact at the EOF of stdin: banner and prompts on their streams.
import code

x = 41
code.interact(banner="banner", local={"x": x}, exitmsg="bye")
print("after")
