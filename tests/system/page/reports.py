"""Sample reports: one like that of a large environment, one without optional values, one with malicious names."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

VERDICTS = ("kept", "compacted", "cold", "stand-in", "dropped")
_WORDS = (
    "core", "utils", "ops", "nn", "functional", "kernels", "config", "io", "testing", "linalg", "sparse", "signal",
    "backends", "transforms", "distributed", "compat", "internal", "frontend", "graph", "quantization", "include",
)  # fmt: skip
# Distributions: name, folder, and approximate percentage of the files.
_DISTRIBUTIONS = (
    ("torch", "torch", 44), ("scipy", "scipy", 12), ("sympy", "sympy", 7), ("pandas", "pandas", 7),
    ("numpy", "numpy", 6), ("matplotlib", "matplotlib", 6), ("spacy", "spacy", 5), ("scikit-learn", "sklearn", 5),
    ("fastai", "fastai", 2), ("pillow", "PIL", 1), ("networkx", "networkx", 3), ("", "loose", 2),
)  # fmt: skip


def realistic(files: int = 26_000, seed: int = 7) -> dict[str, Any]:
    """Return a report of an invented environment with this number of files, a tenth of which a run has used."""
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for name, folder, parts in _DISTRIBUTIONS:
        rows += _distribution(chance, name, folder, max(6, files * parts // 100))
    del rows[files:]
    imports = _imports(chance, rows)
    libraries = [_library(row, chance) for row in rows if row["verdict"] == "compacted"]
    stood_in = [row for row in rows if row["verdict"] == "stand-in"]
    own = 412_345
    return {
        "format": 1,
        "version": "0.1.0",
        "python": "3.11.7",
        "entry": "handler.py",
        "before": {
            "files": len(rows),
            "bytes": sum(row["bytes"] for row in rows),
            "distributions": len({row["distribution"] for row in rows} - {""}),
        },
        "layer": {
            "path": "/out/layer.zip",
            "sha256": "0" * 64,
            "files": sum(1 for row in rows if row["shipped"]),
            "unzipped_bytes": sum(row["shipped"] for row in rows) + own,
            "zipped_bytes": sum(row["shipped"] for row in rows) // 3,
            "distributions": len({row["distribution"] for row in rows if row["shipped"]} - {""}),
        },
        "function": None,
        "verified": True,
        "verification": {
            "events": 3,
            "mismatches": 0,
            "repaired": [rows[0]["path"], rows[1]["path"]],
            "isolated": True,
            "runs": 1,
            "cold_faults": 17,
        },
        "lambda": {
            "events": 3,
            "init_seconds": 2.41,
            "peak_bytes": 303 << 20,
            "tmp_bytes": 12 << 20,
            "memory": 1769,
            "tmp_size": 512,
            "where": "namespaces",
            "skipped": [],
        },
        "kept": _sums(rows, "reason"),
        "distributions": _sums(rows, "distribution"),
        "stand_ins": [
            {
                "module": row["path"].removesuffix(".py").replace("/", "."),
                "importer": row["cause"],
                "line": chance.randrange(1, 400),
                "touched": [{"name": "Tensor", "kind": "class"}] if chance.random() < 0.3 else [],
                "bytes": row["bytes"],
                "seconds": chance.random() / 20,
            }
            for row in stood_in
        ],
        "cold": {"files": 0, "bytes": 0, "stored_bytes": 0},
        "libraries": libraries,
        "bundled": [
            {
                "name": "libgomp.so.1",
                "source": "/usr/lib/libgomp.so.1",
                "needed_by": libraries[0]["path"],
                "bytes": 262_144,
            }
        ]
        if libraries
        else [],
        "not_exercised": [
            {
                "module": f"torch.{chance.choice(_WORDS)}.{chance.choice(_WORDS)}_{n}",
                "importer": "torch.nn",
                "line": n + 1,
            }
            for n in range(files // 40)
        ],
        "observers": ["probe", "strace"],
        "standard_library": ["argparse", "inspect"],
        "missing_observers": [],
        "base_layers": [{"name": "numerics", "sha256": "1" * 64, "files": 900, "unzipped_bytes": 31_000_000}],
        "base_bytes": 31_000_000,
        "conflicts": [],
        "differences": [],
        "warnings": ["numpy 1.26.4 is installed twice; the first one on sys.path counts"],
        "seconds": {"trace": 12.5, "search": 80.1, "plan": 0.5, "pack": 4.0, "verify": 6.0},
        "budget": {
            "limit": 262_144_000,
            "layer": sum(row["shipped"] for row in rows) + own,
            "base_layers": 31_000_000,
            "function": 14_200_000,
        },
        "files": rows,
        "imports": imports,
        "search": {"runs": 14, "complete": True},
        "output": "layer",
        "lazy_imports": "",
        "snapshot": {"stand_ins": [], "modules": [], "files": [], "pages": []},
        "image": None,
        "gpu": {"files": 0, "bytes": 0, "shipped": 0, "distributions": {}, "cpu_builds": {}},
        "licenses": {"files": 90, "bytes": 640_000, "equal": 12, "without": ["blis"]},
        "runtime_distributions": None,
        "cost": {
            "memory": 1769,
            "price_per_gb_second": 0.0000166667,
            "origin": "AWS Lambda's price list, 2026-05-11",
            "before": {"seconds": 6.81, "peak_bytes": 545_259_520, "per_million_starts": 196.1},
            "after": {"seconds": 1.75, "peak_bytes": 319_815_680, "per_million_starts": 50.4},
        },
        "import_time": {
            "before": {
                "seconds": 6.81,
                "distributions": {"torch": 3.9, "fastai": 1.4, "pandas": 0.8, "scipy": 0.4, "": 0.31},
            },
            "after": {"seconds": 1.75, "distributions": {"torch": 1.3, "fastai": 0.2, "": 0.25}},
        },
    }


def _sums(rows: list[dict[str, Any]], key: str) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for row in rows:
        sums[row[key] or "(no distribution)"] += row["shipped"]
    return {name: size for name, size in sums.items() if size}


def _distribution(chance: random.Random, name: str, folder: str, number: int) -> list[dict[str, Any]]:
    folders = [folder]
    while len(folders) < max(2, number // 16):
        above = min(chance.choices(folders, k=2), key=lambda path: path.count("/"))
        folders.append(f"{above}/{chance.choice(_WORDS)}_{len(folders)}")
    paths = [f"{folder}/__init__.py"]
    paths += [f"{chance.choice(folders)}/lib{folder}_{n}.so" for n in range(max(1, number // 150))]
    while len(paths) < number:
        word, end = chance.choice(_WORDS), chance.choice((".py", ".py", ".py", ".h", ".json", ".pyi"))
        paths.append(f"{chance.choice(folders)}/{word}_{chance.choice(_WORDS)}_{len(paths)}{end}")
    return [_file(chance, path, name, folder) for path in sorted(paths)]


def _file(chance: random.Random, path: str, distribution: str, folder: str) -> dict[str, Any]:
    library, module = path.endswith(".so"), path.endswith(".py")
    size = int(chance.lognormvariate(15.0 if library else 8.6, 1.3))
    drawn = chance.random()
    row = {"path": path, "distribution": distribution, "bytes": size}
    importer = f"{folder}.{chance.choice(_WORDS)}"
    if library and drawn < 0.4:
        row_values = (size // 9, "compacted", "TRACED", "loaded by the run", "")
    elif module and drawn < 0.1:
        row_values = (size // 3, "kept", "TRACED", f"imported by {importer}, line {int(drawn * 4000)}", folder)
    elif module and drawn < 0.17:
        row_values = (0, "stand-in", "STAND_IN", f"imported by {importer} and never needed", folder)
    elif drawn < 0.4 and not library:
        row_values = (size // 6, "cold", "UNTOUCHED", "nothing asked for it, but for others of its distribution", "")
    elif path.endswith(".h"):
        row_values = (0, "dropped", "DEVELOPMENT", "only a compiler, a shell or a test runner reads it", "")
    else:
        row_values = (0, "dropped", "UNUSED", "nothing asked for it", "")
    return row | dict(zip(("shipped", "verdict", "reason", "evidence", "cause"), row_values, strict=True))


def _library(row: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    size, shipped = row["bytes"], row["shipped"]
    return {
        "path": row["path"],
        "file": size,
        "mapped": size * 9 // 10,
        "hot": shipped // 2,
        "shipped": shipped * 2 // 3,
        "cold": shipped - shipped * 2 // 3,
        "dropped": 0,
        "gpu": False,
        "problem": "it has no section headers" if chance.random() < 0.05 else "",
    }


def _imports(chance: random.Random, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set the cause of each folder to the one before it, and of the first to the entry."""
    modules = list(dict.fromkeys(row["cause"] for row in rows if row["cause"]))
    chains = [
        {"module": module, "importer": importer, "line": chance.randrange(1, 90), "startup": False}
        for importer, module in zip(["handler", *modules], modules, strict=False)
    ]
    return [{"module": "handler", "importer": "", "line": 0, "startup": False}, *chains]


def bare() -> dict[str, Any]:
    """Return a report of a script with one installed file, without all optional values."""
    row = {
        "path": "answer.py", "distribution": "", "bytes": 12, "shipped": 12, "verdict": "kept", "reason": "TRACED",
        "evidence": "opened by the run", "cause": "",
    }  # fmt: skip
    full = realistic(300)
    return full | {
        "entry": "task.py",
        "before": {"files": 1, "bytes": 12, "distributions": 0},
        "layer": full["layer"] | {"files": 1, "unzipped_bytes": 12, "zipped_bytes": 100, "distributions": 1},
        "verification": {"events": 1, "mismatches": 0, "repaired": [], "isolated": False, "runs": 10, "cold_faults": 0},
        "lambda": None,
        "files": [row],
        "budget": {"limit": 262_144_000, "layer": 12, "base_layers": 0, "function": 0},
        **{
            key: []
            for key in ("stand_ins", "libraries", "bundled", "not_exercised", "base_layers", "warnings", "imports")
        },
        "base_bytes": 0,
        "import_time": None,
        "search": None,
        "cost": None,
    }


HOSTILE = (
    "</script><script>globalThis.struck = 1</script>.py",
    "<img src=x onerror='globalThis.struck = 2'>/a.py",
    "quotes\"'`&amp;.py",
    "\u202etxt.exe\u200f.py",
    "line\nfeed\ttab\r.py",
    "no utf-8 \udcff\udc80.py",
    "astral \U0001f40d\U0001f40e/\U0001f40d\U0001f40f.py",
    "-->]]>{{data}}.py",
    "__proto__/constructor",
)


def hostile() -> dict[str, Any]:
    """Return a report in which every name of a file or module tries to inject code."""
    rows = [
        {
            "path": path, "distribution": HOSTILE[1] if number % 2 else "__proto__", "bytes": 5000, "shipped": 4000,
            "verdict": "kept", "reason": "TRACED", "evidence": f"imported by {HOSTILE[0]}", "cause": HOSTILE[1],
        }
        for number, path in enumerate(HOSTILE)
    ]  # fmt: skip
    return realistic(300) | {
        "entry": HOSTILE[0],
        "files": rows,
        "warnings": list(HOSTILE),
        "imports": [{"module": HOSTILE[1], "importer": HOSTILE[0], "line": 1, "startup": False}],
        "not_exercised": [{"module": name, "importer": name, "line": 1} for name in HOSTILE],
        "stand_ins": [
            {
                "module": name,
                "importer": name,
                "line": 1,
                "touched": [{"name": name, "kind": name}],
                "bytes": 1,
                "seconds": 0.1,
            }
            for name in HOSTILE
        ],
        "search": {"runs": 3, "complete": False},
        "import_time": {
            "before": {"seconds": 1.0, "distributions": dict.fromkeys(HOSTILE, 0.1)},
            "after": {"seconds": 0.5, "distributions": {}},
        },
    }
