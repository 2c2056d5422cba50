# A SystemExit subclass with its own code property.
class Leave(SystemExit):
    def __init__(self, text):
        super().__init__(text)
        self.code = 42


raise Leave("not printed")
