# Time zone data and the effect of setting TZ at run time.
import os
import time

print(time.tzname, time.timezone, time.altzone, time.daylight, os.environ.get("TZ"))
print(time.localtime(0)[:6], time.localtime(1720000000).tm_zone, time.ctime(0), time.strftime("%c", time.gmtime(0)))
os.environ["TZ"] = "XYZ-3ABC,M3.5.0,M10.5.0"
print(time.localtime(1720000000)[:6] == time.gmtime(1720000000)[:6])
time.tzset()
print(time.tzname, time.localtime(1720000000)[:6], time.timezone)
