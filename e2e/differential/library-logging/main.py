# logging without configuration (last resort), with basicConfig, an exception, and shutdown at exit.
import logging

logging.getLogger("a").info("not shown")
logging.getLogger("a.b").warning("last resort")
logging.basicConfig(format="%(levelname)s %(name)s %(processName)s %(threadName)s %(module)s:%(lineno)d %(message)s", level=logging.DEBUG)
log = logging.getLogger("x")
log.debug("%s and %d", "text", 3)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
log.info("%d", "bad argument")
print(logging.root.handlers[0].stream.name, logging.getLogger().manager.loggerDict.keys())
