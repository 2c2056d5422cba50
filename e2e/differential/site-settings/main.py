# The results of the site phase: packages, user site, prefixes, customisation modules.
import site
import sys

print(site.PREFIXES, site.ENABLE_USER_SITE, site.USER_SITE, site.USER_BASE)
print(site.getsitepackages(), site.getusersitepackages())
print([n for n in ("sitecustomize", "usercustomize", "apport_python_hook") if n in sys.modules])
print(sorted(n for n in vars(site) if not n.startswith("__")))
print(site.check_enableusersite())
