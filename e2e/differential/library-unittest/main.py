# unittest.main on __main__, with a stream of its own so that the times can be cut off.
import io
import re
import sys
import unittest


class T(unittest.TestCase):
    def test_ok(self):
        self.assertEqual(1, 1)

    def test_fail(self):
        self.assertEqual([1, 2, 3], [1, 2, 4], "lists")

    def test_error(self):
        raise KeyError("err")

    @unittest.skip("reason")
    def test_skip(self):
        pass


buf = io.StringIO()
r = unittest.main(exit=False, argv=["main.py", "-v"], testRunner=unittest.TextTestRunner(stream=buf, verbosity=2))
print(re.sub(r"in [0-9.]+s", "in <time>", buf.getvalue()))
sys.exit(not r.result.wasSuccessful())
