"""Compatibility of libraries with Lambda's runtimes: the table, the checks, bundled libraries, and the messages."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer_minimizer.analysis.elf import Dynamic, VersionRequirement
from layer_minimizer.aws import runtimes
from layer_minimizer.aws.runtimes import load_runtimes
from layer_minimizer.core.errors import PackError, UsageError
from layer_minimizer.layer import archive
from layer_minimizer.plan import compatibility
from layer_minimizer.plan.compatibility import (
    CheckedLibrary,
    Findings,
    Target,
    Violation,
    check_libraries,
    refuse_violations,
)
from layer_minimizer.settings import choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.values import Build

RUNTIMES = load_runtimes()


def target(runtime: str = "python3.11", machine: str = "x86_64") -> Target:
    chosen = RUNTIMES[runtime]
    return Target(chosen, machine, chosen.python or (3, 12))


def library(
    path: str = "pkg/ext.so",
    *,
    needed: Iterable[str] = ("libc.so.6",),
    versions: Iterable[str] = (),
    of: str = "libc.so.6",
    machine: str = "x86_64",
    soname: str = "",
    size: int = 100,
    loaded: bool = True,
) -> CheckedLibrary:
    return CheckedLibrary(
        path=path,
        size=size,
        owner="" if path.startswith("/") else path.partition("/")[0],
        dynamic=Dynamic(tuple(needed), (), ("$ORIGIN",), soname, machine),
        versions=tuple(VersionRequirement(of, version, "some_function") for version in versions),
        loaded=loaded,
    )


def found(*libraries: CheckedLibrary, runtime: str = "python3.11", here: Iterable[CheckedLibrary] = ()) -> Findings:
    """Check libraries of a layer on a machine that has the libraries ``here``."""
    present = {each.path for each in libraries}
    by_name = {each.path.rpartition("/")[2]: each for each in here}
    return check_libraries(target(runtime), libraries, present.__contains__, lambda _, name: by_name.get(name))


def problems(findings: Findings) -> list[str]:
    return [f"{each.library.path} {each.problem}" for each in findings.violations]


def test_the_table_has_every_python_that_can_be_minimized_the_newest_first() -> None:
    assert list(RUNTIMES) == [f"python3.{minor}" for minor in range(15, 5, -1)] + ["provided.al2023", "provided.al2"]
    for name, runtime in RUNTIMES.items():
        if runtime.python:
            assert name == "python{}.{}".format(*runtime.python)
            assert any(each.startswith(f"lib{name}") for each in runtime.provides)
        assert runtime.versions.keys() == {"GLIBC", "GLIBCXX", "CXXABI", "GCC"}
        assert {"libc.so.6", "libstdc++.so.6"} <= runtime.provides
        assert "libgomp.so.1" not in runtime.provides
        assert set(runtime.architectures) <= runtimes.ARCHITECTURES.keys()
        assert isinstance(runtime.deprecated, date)


def test_a_newer_runtime_has_all_that_an_older_one_has() -> None:
    with_python = [runtime for runtime in RUNTIMES.values() if runtime.python]
    for newer, older in itertools.pairwise(with_python):
        assert all(newer.versions[family] >= number for family, number in older.versions.items())
        own = {each for each in older.provides if each.startswith("libpython")}
        assert newer.provides >= older.provides - own


@pytest.mark.parametrize(
    ("runtime", "version", "text"),
    [
        ("python3.11", "GLIBC_2.28", "needs GLIBC_2.28 (some_function); python3.11 has GLIBC_2.26"),
        ("python3.7", "GLIBC_2.18", "needs GLIBC_2.18 (some_function); python3.7 has GLIBC_2.17"),
        ("python3.13", "GLIBC_2.35", "needs GLIBC_2.35 (some_function); python3.13 has GLIBC_2.34"),
        ("python3.14", "GLIBC_ABI_DT_RELR", "needs GLIBC_ABI_DT_RELR (some_function); python3.14 has GLIBC_2.34"),
        ("python3.11", "GLIBCXX_3.4.26", "needs GLIBCXX_3.4.26 (some_function); python3.11 has GLIBCXX_3.4.24"),
        ("python3.6", "CXXABI_1.3.8", "needs CXXABI_1.3.8 (some_function); python3.6 has CXXABI_1.3.7"),
        ("python3.12", "GCC_12.0.0", "needs GCC_12.0.0 (some_function); python3.12 has GCC_7.0.0"),
    ],
)
def test_a_version_that_the_runtime_lacks_is_named_with_a_symbol(runtime: str, version: str, text: str) -> None:
    assert problems(found(library(versions=[version]), runtime=runtime)) == [f"pkg/ext.so {text}"]


@pytest.mark.parametrize(
    "version",
    ["GLIBC_2.2.5", "GLIBC_2.9", "GLIBC_2.26", "GLIBC_PRIVATE", "CXXABI_TM_1", "CXXABI_FLOAT128", "LIBFOO_9.9", ""],
)
def test_other_versions_are_ignored(version: str) -> None:
    assert problems(found(library(versions=[version]))) == []


@given(number=st.tuples(st.just(2), st.integers(0, 99)), runtime=st.sampled_from(list(RUNTIMES)))
def test_versions_are_compared_as_numbers(number: tuple[int, int], runtime: str) -> None:
    findings = found(library(versions=[f"GLIBC_{number[0]}.{number[1]}"]), runtime=runtime)
    assert bool(findings.violations) == (number > RUNTIMES[runtime].versions["GLIBC"].release)


def test_one_line_lists_all_versions_the_newest_first() -> None:
    both = replace(
        library(needed=["libc.so.6", "libstdc++.so.6"]),
        versions=(
            VersionRequirement("libc.so.6", "GLIBC_2.27", ""),
            VersionRequirement("libc.so.6", "GLIBC_2.34", "dlopen"),
            VersionRequirement("libstdc++.so.6", "GLIBCXX_3.4.29", "fs"),
        ),
    )
    text = "needs GLIBCXX_3.4.29 (fs), GLIBC_2.34 (dlopen), GLIBC_2.27; python3.11 has GLIBC_2.26, GLIBCXX_3.4.24"
    assert problems(found(both)) == [f"pkg/ext.so {text}"]


def test_a_library_of_the_layer_provides_its_own_versions() -> None:
    own = library("pkg/libstdc++.so.6", soname="libstdc++.so.6")
    user = library(needed=["libstdc++.so.6"], of="libstdc++.so.6", versions=["GLIBCXX_3.4.30"])
    assert problems(found(user, own)) == []
    assert len(found(user).violations) == 1


def test_a_library_that_the_runtime_lacks_comes_from_this_machine_with_all_that_it_needs() -> None:
    gomp = library("/usr/lib/libgomp.so.1", needed=["libc.so.6", "libquad.so.0"], versions=["GLIBC_2.17"], size=7)
    quad = library("/opt/x/libquad.so.0", size=9)
    findings = found(library(needed=["libgomp.so.1", "libc.so.6"]), here=[gomp, quad])
    assert problems(findings) == []
    assert [(each.name, each.source, each.needed_by, each.bytes) for each in findings.bundled] == [
        ("libgomp.so.1", "/usr/lib/libgomp.so.1", "pkg/ext.so", 7),
        ("libquad.so.0", "/opt/x/libquad.so.0", "/usr/lib/libgomp.so.1", 9),
    ]


def test_what_comes_from_this_machine_must_fit_too() -> None:
    user = library(needed=["libgomp.so.1"])
    new = library("/usr/lib/libgomp.so.1", versions=["GLIBC_2.34"])
    assert problems(found(user, here=[new])) == [
        "/usr/lib/libgomp.so.1 needs GLIBC_2.34 (some_function); python3.11 has GLIBC_2.26"
    ]
    assert problems(found(user, here=[new], runtime="python3.12")) == []
    own = library("/usr/lib/libgomp.so.1", versions=["GLIBC_PRIVATE"])
    assert "a part of this machine's C library" in problems(found(user, here=[own], runtime="python3.12"))[0]


def test_a_library_that_is_nowhere_is_an_error_only_where_it_was_found_by_the_run() -> None:
    (violation,) = found(library(needed=["libodd.so.1"])).violations
    assert violation.fatal
    assert violation.problem.startswith("needs libodd.so.1: not in the layer")
    assert "install libodd.so.1" in violation.remedy
    findings = found(library(needed=["libodd.so.1", "libc.so.6", "libtoo.so"], loaded=False))
    assert not findings.violations[0].fatal
    refuse_violations(target(), findings)
    (warning,) = compatibility.compatibility_warnings(target(), findings, Findings())
    assert warning.startswith("pkg/ext.so needs libodd.so.1, libtoo.so: not in the layer")


def test_a_library_that_another_one_of_the_layer_has_loaded_is_not_missed() -> None:
    assert problems(found(library(needed=["libodd.so.1"]), library("other/libodd-1.so", soname="libodd.so.1"))) == []
    assert problems(found(library(needed=["libodd.so.1"]), library("other/libodd.so.1"))) == []


def test_a_library_for_another_processor_is_refused() -> None:
    assert problems(found(library(machine="aarch64"))) == ["pkg/ext.so is for aarch64, the runtime runs on x86_64"]


@pytest.mark.parametrize(
    ("runtime", "name", "fits"),
    [
        ("python3.12", "ext.cpython-312-x86_64-linux-gnu.so", True),
        ("python3.12", "ext.cpython-311-x86_64-linux-gnu.so", False),
        ("python3.13", "ext.cpython-313t-x86_64-linux-gnu.so", False),
        ("python3.12", "ext.cpython-312.so", True),
        ("python3.12", "ext.abi3.so", True),
        ("python3.12", "ext.so", True),
        ("python3.12", "libcpython-311.so", True),
        ("python3.7", "ext.cpython-37m-x86_64-linux-gnu.so", True),
        ("python3.7", "ext.cpython-37-x86_64-linux-gnu.so", False),
    ],
)
def test_an_extension_module_is_for_the_runtimes_python(runtime: str, name: str, *, fits: bool) -> None:
    assert bool(problems(found(library(f"pkg/{name}"), runtime=runtime))) is not fits


def test_an_extension_module_for_another_python_next_to_the_right_one_is_ignored() -> None:
    right, wrong = (library(f"pkg/ext.cpython-3{minor}-x86_64-linux-gnu.so") for minor in (12, 11))
    assert problems(found(right, wrong, runtime="python3.12")) == []
    other = library("pkg/extra.cpython-312-x86_64-linux-gnu.so")
    assert len(found(other, wrong, runtime="python3.12").violations) == 1


def refusal(findings: Findings, runtime: str = "python3.11") -> str:
    with pytest.raises(PackError) as raised:
        refuse_violations(target(runtime), findings)
    assert raised.value.exit_code == 5
    return str(raised.value)


def test_the_largest_ten_are_listed_and_a_runtime_that_has_it_all() -> None:
    many = [library(f"pkg{number}/ext.so", versions=["GLIBC_2.28"], size=number) for number in range(12)]
    text = refusal(found(*many))
    assert text.startswith("the layer would not work in python3.11 (Amazon Linux 2, x86_64):\n")
    assert re.findall(r"^  pkg(\d+)/", text, re.MULTILINE) == [str(number) for number in range(11, 1, -1)]
    assert "\n  and 2 more\n" in text
    assert "use a Python 3.12 and --runtime python3.12, which has GLIBC_2.34" in text
    assert "older versions of pkg11, pkg10" in text
    assert "manylinux_2_26" in text


def test_where_no_runtime_has_it_the_text_says_so() -> None:
    text = refusal(found(library(versions=["GLIBC_2.38"]), runtime="python3.14"), "python3.14")
    assert "no Lambda runtime has these versions" in text
    assert "--runtime" not in text
    gomp = library("/usr/lib/libgomp.so.1", versions=["GLIBC_2.38"])
    assert "build the layer on Amazon Linux 2023" in refusal(
        found(library(needed=["libgomp.so.1"]), here=[gomp], runtime="python3.14"), "python3.14"
    )


def test_nothing_is_refused_where_all_fits() -> None:
    refuse_violations(target(), Findings())
    refuse_violations(target(), Findings((Violation(library(), "may be missed", fatal=False),)))


def test_cold_libraries_that_would_fail_are_one_warning() -> None:
    cold = found(
        library("a/x.so", versions=["GLIBC_2.28"]),
        library("b/y.so", needed=["libgomp.so.1"]),
        here=[library("/usr/lib/libgomp.so.1")],
    )
    (warning,) = compatibility.compatibility_warnings(target(), Findings(), cold)
    assert warning.startswith("2 libraries that no event touched")
    assert warning.endswith("a/x.so, b/y.so")
    assert compatibility.compatibility_warnings(target(), cold, Findings(bundled=cold.bundled)) == ()


def test_a_target_is_what_the_interpreter_is(build: type[Build], tmp_path: object) -> None:
    interpreter = build.interpreter(tmp_path)  # type: ignore[arg-type]
    target_of: Callable[..., Target | None] = compatibility.choose_target
    assert target_of("", "", interpreter) is None
    assert target_of("python3.11", "", interpreter) == target()
    assert target_of("python3.11", "x86_64", interpreter) == target()
    with pytest.raises(UsageError, match="name it with --runtime"):
        target_of("", "arm64", interpreter)
    with pytest.raises(UsageError, match=r"choose one of python3\.15, "):
        target_of("python2.7", "", interpreter)
    with pytest.raises(PackError, match=r"is Python 3\.11, .* --python, or use --runtime python3\.11"):
        target_of("python3.12", "", interpreter)
    with pytest.raises(PackError, match="make the layer on a machine with arm64"):
        target_of("python3.11", "arm64", interpreter)
    arm = replace(interpreter, machine="aarch64", version=(3, 7, 1))
    with pytest.raises(PackError, match=r"python3\.7 runs on x86_64, not on arm64"):
        target_of("python3.7", "", arm)
    assert target_of("python3.8", "arm64", replace(arm, version=(3, 8, 0))) == target("python3.8", "aarch64")


def test_a_deprecated_runtime_gives_a_warning() -> None:
    runtime = RUNTIMES["python3.9"]
    assert runtimes.support_warnings(runtime, date(2025, 12, 14)) == ()
    (warning,) = runtimes.support_warnings(runtime, date(2025, 12, 15))
    assert warning.startswith("python3.9 is deprecated since 2025-12-15")
    assert "python3.14" in warning


def test_an_os_only_runtime_takes_any_python(build: type[Build], tmp_path: object) -> None:
    interpreter = build.interpreter(tmp_path)  # type: ignore[arg-type]
    chosen = compatibility.choose_target("provided.al2023", "", interpreter)
    assert chosen == Target(RUNTIMES["provided.al2023"], "x86_64", (3, 11))
    assert chosen.runtime.distributions == {}
    assert not [name for name in chosen.runtime.provides if "python" in name]
    assert compatibility.choose_target("provided.al2023", "", replace(interpreter, version=(3, 16, 0)))
    other = library("pkg/ext.cpython-312-x86_64-linux-gnu.so", versions=["GLIBC_2.35"])
    problems = compatibility.check_libraries(chosen, [other], {other.path}.__contains__, lambda *_: None).violations
    assert [problem.problem.split(",")[0] for problem in problems] == [
        "is for cpython-312",
        "needs GLIBC_2.35 (some_function); provided.al2023 has GLIBC_2.34",
    ]
    (warning,) = runtimes.support_warnings(RUNTIMES["provided.al2"], date(2026, 7, 31))
    assert warning.endswith("the newest runtime is provided.al2023")


def test_a_preview_is_no_production_runtime() -> None:
    assert [name for name, runtime in RUNTIMES.items() if runtime.preview] == ["python3.15"]
    assert runtimes.newest_runtime() == "python3.14"
    (warning,) = runtimes.support_warnings(RUNTIMES["python3.15"], date(2026, 11, 30))
    assert warning.startswith("python3.15 is a preview since 2026-07-24")
    assert "python3.14" in warning


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("/etc/passwd", 0o100644),
        ("python/../../x", 0o100644),
        ("python/a\\b", 0o100644),
        ("python/\udc80", 0o100644),
        ("python/a.py", 0o100640),
        ("python/folder/", 0o40744),
    ],
)
def test_files_that_lambda_cannot_use_are_refused(name: str, mode: int) -> None:
    with pytest.raises(PackError, match="exclude them with --exclude"):
        archive.check_entries([("python/fine.py", 0o100644), (name, mode)])


def test_other_files_are_fine() -> None:
    archive.check_entries(
        [("python/a..py", 0o100644), ("lib/é.so", 0o100755), ("python/empty/", 0o40755), ("python/link", 0o120777)]
    )


def test_settings_take_known_runtimes_and_architectures_alone() -> None:
    assert choose(None, {"runtime": "python3.12", "architecture": "arm64"}).runtime == "python3.12"
    with pytest.raises(UsageError, match=r"runtime='python2\.7': it must be one of python3\.15, "):
        choose(None, {"runtime": "python2.7"})
    with pytest.raises(UsageError, match=r"architecture='aarch64': it must be one of x86_64, arm64; did you"):
        choose(None, {"architecture": "aarch64"})
