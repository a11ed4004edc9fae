# Asked of an interpreter under -I -S -B: nothing of a project and nothing that is installed runs.
import sys
loaded = list(sys.modules)
path = list(sys.path)
import site
loaded += list(sys.modules)
import json, os, sysconfig, _imp

def encoded(value):
    return os.fsencode(value).decode("latin-1")

base, base_exec = sys.base_prefix, sys.base_exec_prefix
environment, home = "/:environment:", "/:home:"

def site_packages(prefix, exec_prefix, prefixes):
    # Distributions change this function, so it is called rather than known.
    sys.prefix, sys.exec_prefix, site.PREFIXES = prefix, exec_prefix, prefixes
    return [encoded(folder) for folder in site.getsitepackages()]

plain = site_packages(base, base_exec, [base, base_exec])
inner = site_packages(environment, environment, [environment])
outer = site_packages(environment, environment, [environment, base, base_exec])
sys.prefix, sys.exec_prefix = base, base_exec

def user(variable, value):
    kept = {name: os.environ.pop(name, None) for name in ("HOME", "USERPROFILE", "APPDATA", "PYTHONUSERBASE")}
    os.environ[variable] = value
    site.USER_BASE = site.USER_SITE = None
    try:
        return encoded(site.getuserbase() or ""), encoded(site.getusersitepackages() or "")
    finally:
        del os.environ[variable]
        os.environ.update({name: text for name, text in kept.items() if text is not None})

def own_home():
    try:
        import pwd
        return encoded(pwd.getpwuid(os.getuid()).pw_dir)
    except Exception:
        return ""

user_base, _ = user("HOME", home)
_, user_site = user("PYTHONUSERBASE", home)
names = getattr(_imp, "_frozen_module_names", lambda: ["_frozen_importlib", "_frozen_importlib_external", "zipimport"])()
frozen = [name for name in names if "." not in name and _imp.is_frozen(name)]

def standard_names():
    # Before 3.10 it is what lies in the standard library's folders.
    found = set(sys.builtin_module_names)
    for folder in {sysconfig.get_path("stdlib"), *path}:
        if os.path.isdir(folder):
            found.update(entry.split(".")[0] for entry in os.listdir(folder))
    return [name for name in found if name.isidentifier() and name not in ("__pycache__", "test", "LICENSE")]

folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")] + [p for p in path if os.path.isdir(p)]
print(json.dumps({
    "version": list(sys.version_info[:3]), "platform": sys.platform, "os_name": os.name,
    "executable": encoded(sys.executable or ""), "base_prefix": encoded(base), "base_exec_prefix": encoded(base_exec),
    "path": [encoded(p) for p in path], "standard_library": sorted({encoded(p) for p in folders if p}),
    "site_plain": plain, "site_inner": inner, "site_outer": outer,
    "user_base": user_base, "user_site": user_site, "home": own_home(),
    "extension_suffixes": _imp.extension_suffixes(),
    "built_in": sorted(set(sys.builtin_module_names) | set(frozen)),
    "loaded_at_start": sorted({name for name in loaded if "." not in name} - {"__main__", "linecache"}),
    "standard_names": sorted(getattr(sys, "stdlib_module_names", None) or standard_names()),
}))
