"""Image stores besides the graph root: `additionalimagestores` and `imagestore` of storage.conf(5), and
those that the kernel's mount table shows below the container's own root file system."""

from __future__ import annotations

from fhir_hook.store import files, mounts

SYSTEM_FILES = ("/etc/containers/storage.conf", "/usr/share/containers/storage.conf")
MAX_CONF = 1 << 20


def others(graph: str, driver: str, layer: str) -> list[str]:
    """Return the roots of other image stores in the order to look in; unreadable sources add nothing."""
    found = mounted(graph, driver, layer)
    for path in (*_user_files(), *SYSTEM_FILES):
        try:
            found += configured(files.read(path, MAX_CONF))
        except (OSError, files.FileError):
            continue
    return list(dict.fromkeys(found))


def mounted(graph: str, driver: str, layer: str) -> list[str]:
    """Stores whose layers are lower directories of this root file system's overlay mount (proc_pid_mountinfo(5))."""
    target = f"{graph}/{driver}/{layer}/merged"
    for mount in mounts.table():
        if mount.point == target:
            lower = [o.removeprefix("lowerdir=") for o in mount.options.split(",") if o.startswith("lowerdir=")]
            return _stores_of(":".join(lower).split(":"), driver)
    return []


def _stores_of(directories: list[str], driver: str) -> list[str]:
    stores = []
    for directory in directories:
        store, marker, _ = directory.rpartition(f"/{driver}/")
        if marker and store.startswith("/"):
            stores.append(store)
    return stores


def configured(data: bytes) -> list[str]:
    """Stores that one storage.conf names; a file that is no TOML names none (the engine complains of it)."""
    import tomllib

    try:
        storage = tomllib.loads(data.decode("utf-8")).get("storage", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return []
    if not isinstance(storage, dict):
        return []
    options = storage.get("options", {})
    stores = options.get("additionalimagestores", []) if isinstance(options, dict) else []
    stores = stores if isinstance(stores, list) else []
    separate = [storage.get("imagestore")] + [options.get("imagestore") if isinstance(options, dict) else None]
    return [s for s in (*separate, *stores) if isinstance(s, str) and s.startswith("/")]


def _user_files() -> tuple[str, ...]:
    uid = files.outer_uid()
    if uid == 0:
        return ()
    import pwd

    try:
        return (pwd.getpwuid(uid).pw_dir + "/.config/containers/storage.conf",)
    except KeyError:
        return ()
