"""Objects with small damages: parts removed, swapped for others of the same name, or given odd values.

The same seed gives the same objects.
"""

import copy
import random
from collections import defaultdict

_WORDS = [
    *(
        "",
        "x",
        "*",
        "a b",
        "A",
        "a_b",
        "-a",
        "a.b",
        "a.*",
        "*.b.c",
        "é",
        "~",
        ".",
        "::1",
        "10.0.0.1",
        "10.0.0.0/8",
    ),
    *(
        "1s",
        "0s",
        "-1s",
        "1ms",
        "999us",
        "1.0005s",
        "100000h",
        "%",
        "%%",
        "%REQ(a)%",
        "5xx",
        "503",
        "503,5xx",
    ),
    *(
        "GET",
        "HTTPS",
        "UNAVAILABLE",
        "(",
        "[a",
        "a{1001}",
        "\\1",
        "(?i)a",
        "a\nb",
        "/",
        "ns/gw",
        "*/gw",
        "mesh",
    ),
    *("Host", ":path", ":authority", "unix:///a", "a" * 64, "a" * 300),
]
_NUMBERS = [0, -1, 1, 2, 99, 100, 101, 399, 599, 600, 65535, 65536, 2**31 - 1, 2**31, 0.5, 50.00001]
_ANYTHING = [None, "", 0, -1, 1.5, "x", [], {}, [None], True]


class Mutants:
    """An endless supply of damaged copies of some objects."""

    def __init__(self, objects, seed):
        self._objects = objects
        self._random = random.Random(seed)
        self._values = defaultdict(list)
        self._siblings = defaultdict(set)
        for obj in objects:
            for path in _paths(obj["spec"]):
                if isinstance(path[-1], str):
                    self._values[path[-1]].append(_at(obj["spec"], path))
                    self._siblings[_names(path[:-1])].add(path[-1])

    def __iter__(self):
        while True:
            obj = copy.deepcopy(self._random.choice(self._objects))
            self._damage(obj["spec"])
            yield obj

    def _damage(self, spec):
        path = self._random.choice(list(_paths(spec)))
        inside, key = _at(spec, path[:-1]), path[-1]
        way = self._random.choices(_WAYS, _ODDS)[0]
        way(self, inside, key, path)

    def _remove(self, inside, key, _path):
        del inside[key]

    def _change(self, inside, key, _path):
        match inside[key]:
            case bool() as value:
                inside[key] = not value
            case int() | float():
                inside[key] = self._random.choice(_NUMBERS)
            case str():
                inside[key] = self._random.choice(_WORDS)
            case list() as items if len(items) > 1:
                self._random.shuffle(items)
            case value:
                inside[key] = type(value)() if value else None

    def _swap(self, inside, key, _path):
        inside[key] = copy.deepcopy(self._random.choice(self._values.get(key) or _ANYTHING))

    def _add(self, inside, key, path):
        if isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            name = self._random.choice(sorted(self._siblings[_names(path[:-1])]))
            inside[name] = copy.deepcopy(self._random.choice(self._values[name]))

    def _spoil(self, inside, key, _path):
        inside[key] = copy.deepcopy(self._random.choice(_ANYTHING))

    def _misspell(self, inside, key, _path):
        if isinstance(inside, dict):
            inside[f"{key}s"] = inside.pop(key)


_WAYS = (
    *(Mutants._remove, Mutants._change, Mutants._swap),
    *(Mutants._add, Mutants._spoil, Mutants._misspell),
)
_ODDS = (10, 40, 25, 15, 8, 2)


def _paths(value, path=()):
    """Yield the path of everything inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths(item, (*path, key))


def _at(value, path):
    for key in path:
        value = value[key]
    return value


def _names(path):
    return tuple(key for key in path if isinstance(key, str))
