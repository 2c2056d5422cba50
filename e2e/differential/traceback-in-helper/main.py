# A traceback through an imported helper and a package below the job directory.
from pkg import deep
import helper

helper.call(deep.fail, "x")
