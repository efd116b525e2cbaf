"""The Python of a base image is found without running it, and the configuration keeps what the base has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from layer_minimizer.core.errors import PackError, RunnerError, UsageError
from layer_minimizer.layer.root_files import RootFiles
from layer_minimizer.model.interpreter import Interpreter
from layer_minimizer.pack.base_image import BaseImage, choose_base_image, libraries_in
from layer_minimizer.pack.image import ImageContents, ImageOptions, make_image
from layer_minimizer.settings import Settings
from tests.support.base_images import PYTHON, docker_save

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

HERE = Interpreter("/env/bin/python", "/usr/bin/python", (3, 11, 7), "", "x86_64", (), (), (), "")
DEBIAN = {**PYTHON, "etc/debian_version": "12", "usr/bin/python3.9": "ELF"}
OFFICIAL = {
    "usr/local/bin/python": "-> python3",
    "usr/local/bin/python3": "-> python3.11",
    "usr/local/bin/python3.11": "ELF",
    "usr/local/lib/python3.11/os.py": "",
}
VIRTUAL = {**OFFICIAL, "venv/bin/python": "-> /usr/local/bin/python3", "venv/pyvenv.cfg": ""}
MERGED = {"lib64": "-> usr/lib64", "usr/bin/python3.11": "ELF", "usr/bin/python3": "-> python3.11"} | {
    "usr/lib64/python3.11/os.py": ""
}
LAMBDA = {"var/lang/bin/python3.11": "ELF", "var/lang/lib/python3.11/os.py": "", "var/task": None}
LAMBDA_ENV = ["PATH=/var/lang/bin:/usr/bin", "LAMBDA_TASK_ROOT=/var/task", "LD_LIBRARY_PATH=/var/lang/lib"]


def base_of(files: Mapping[str, str | None], folder: Path, **process: Any) -> BaseImage:
    image = docker_save(folder / "base.tar", files, config={"Env": ["PATH=/usr/local/bin:/usr/bin"], **process})
    return choose_base_image(str(image), HERE, folder)


@pytest.mark.parametrize(
    ("files", "process", "expected"),
    [
        (DEBIAN, {}, ("/usr/bin/python3", "/usr/local/lib/python3.11/dist-packages", "/app")),
        (OFFICIAL, {}, ("/usr/local/bin/python3", "/usr/local/lib/python3.11/site-packages", "/app")),
        (MERGED, {"WorkingDir": "/srv/"}, ("/usr/bin/python3", "/usr/lib/python3.11/site-packages", "/srv")),
        (OFFICIAL, {"WorkingDir": "/"}, ("/usr/local/bin/python3", "/usr/local/lib/python3.11/site-packages", "/app")),
        (
            VIRTUAL,
            {"Env": ["PATH=/venv/bin:/usr/local/bin"]},
            ("/venv/bin/python", "/venv/lib/python3.11/site-packages", "/app"),
        ),
        (OFFICIAL, {"Env": None}, ("/usr/local/bin/python3", "/usr/local/lib/python3.11/site-packages", "/app")),
        (LAMBDA, {"Env": LAMBDA_ENV}, ("/var/lang/bin/python3.11", "", "/var/task")),
    ],
)
def test_the_python_of_a_base(
    files: Mapping[str, str | None], process: dict[str, Any], expected: tuple[str, str, str], tmp_path: Path
) -> None:
    base = base_of(files, tmp_path, **process)
    assert (base.python, base.site, base.folder) == expected


def test_a_base_that_does_not_fit(tmp_path: Path) -> None:
    other = {path.replace("3.11", "3.12"): (text or "").replace("3.11", "3.12") for path, text in OFFICIAL.items()}
    with pytest.raises(PackError, match=r"has Python 3\.12 \(/usr/local/bin/python3\), .* it needs Python 3\.11"):
        base_of(other, tmp_path)
    with pytest.raises(PackError, match="has no Python on its PATH"):
        base_of({"bin/sh": ""}, tmp_path)
    arm = docker_save(tmp_path / "arm.tar", PYTHON, architecture="arm64")
    with pytest.raises(PackError, match=r"is for linux/arm64, and /env/bin/python is for linux/amd64"):
        choose_base_image(str(arm), HERE, tmp_path)


def test_nothing_can_fetch_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RunnerError, match=r"docker is not installed(?s:.*)skopeo is not installed here(?s:.*)docker save"
    ):
        choose_base_image("python:3.11", HERE, tmp_path)


def contents_in(folder: Path, **more: Any) -> ImageContents:
    site = "python/lib/python3.11/site-packages"
    (folder / "layer" / site).mkdir(parents=True)
    (folder / "layer" / site / "alpha.py").touch()
    (folder / "task").mkdir()
    (folder / "task" / "handler.py").touch()
    values = {"entry": "handler.py", "handler": "main", "model": ""} | more
    return ImageContents(folder / "layer", folder / "task", site, **values)


def test_the_configuration_of_the_base_stays(tmp_path: Path) -> None:
    base = base_of(DEBIAN, tmp_path, User="7", Labels={"of": "base"}, Entrypoint=["/tini"], ExposedPorts={"80/tcp": {}})
    made = make_image(base, contents_in(tmp_path), ImageOptions("app:latest"), tmp_path / "made")
    process = made.image.process
    assert process == {
        "Env": ["PATH=/usr/local/bin:/usr/bin"],
        "User": "7",
        "Labels": {"of": "base"},
        "Entrypoint": ["/tini"],
        "ExposedPorts": {"80/tcp": {}},
        "Cmd": ["/usr/bin/python3", "/app/handler.py"],
        "WorkingDir": "/app",
    }
    assert made.image.layers[:1] == base.image.layers
    assert [part.name for part in made.parts] == ["base", "packages", "function"]
    assert [len(RootFiles.of((layer,)).files) for layer in made.image.layers[1:]] == [11, 2]
    pth = "usr/local/lib/python3.11/dist-packages/layer_minimizer_packages.pth"
    assert pth in RootFiles.of(made.image.layers).files


def test_options_change_the_configuration(tmp_path: Path) -> None:
    base = base_of(DEBIAN, tmp_path, User="7", Labels={"of": "base", "a": "b"}, Env=["PATH=/usr/bin", "A=1"])
    options = ImageOptions("app:latest", "9", ("A=2", "B=x=y"), ("a=c",), "/bin/run 'it now'", "go")
    contents = contents_in(tmp_path, model="m.pkl")
    (contents.layer / "lib").mkdir()
    made = make_image(base, contents, options, tmp_path / "made")
    assert made.image.environment == {
        "PATH": "/usr/bin", "A": "2", "B": "x=y", "MODEL_PATH": "/app/m.pkl", "LD_LIBRARY_PATH": "/opt/lib",
    }  # fmt: skip
    assert made.command == ("/bin/run", "it now", "go")
    assert made.image.process["User"] == "9"
    assert made.image.process["Labels"] == {"of": "base", "a": "c"}
    assert made.image.annotations == {"a": "c"}


def test_lambda_starts_the_handler(tmp_path: Path) -> None:
    base = base_of(LAMBDA, tmp_path, Env=LAMBDA_ENV, Entrypoint=["/lambda-entrypoint.sh"])
    made = make_image(base, contents_in(tmp_path), ImageOptions("app:latest"), tmp_path / "made")
    assert made.command == ("/lambda-entrypoint.sh", "handler.main")
    assert "var/task/handler.py" in RootFiles.of(made.image.layers).files
    assert not any(path.endswith("packages.pth") for path in RootFiles.of(made.image.layers).files)


def test_a_change_of_the_function_changes_one_layer(tmp_path: Path) -> None:
    base, contents = base_of(DEBIAN, tmp_path), contents_in(tmp_path)
    first = make_image(base, contents, ImageOptions("app:latest"), tmp_path / "first")
    (contents.function / "handler.py").write_text("changed = 1\n")
    second = make_image(base, contents, ImageOptions("app:latest"), tmp_path / "second")
    same = [
        one == other
        for one, other in zip(
            first.image.config["rootfs"]["diff_ids"], second.image.config["rootfs"]["diff_ids"], strict=True
        )
    ]
    assert same == [True, True, False]


def test_libraries_are_found_where_the_loader_looks(tmp_path: Path) -> None:
    files = {
        "lib": "-> usr/lib",
        "usr/lib/x86_64-linux-gnu": None,
        "usr/lib/x86_64-linux-gnu/libz.so.1": "-> libz.so.1.2",
    }
    files |= {"usr/lib64/libm.so.6": "", "srv/liby.so": "", "own/libx.so": ""}
    base = base_of({**DEBIAN, **files}, tmp_path, Env=["PATH=/usr/bin", "LD_LIBRARY_PATH=/own"])
    assert set(libraries_in(base)) == {"libz.so.1", "libm.so.6", "libx.so"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_name": "App"}, "small letters"),
        ({"image_env": ["A"]}, "--image-env A: it needs NAME=VALUE"),
        ({"image_label": ["=x"]}, "--image-label =x: it needs NAME=VALUE"),
        ({"image_command": "it's"}, "--image-command it's: No closing quotation"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        ImageOptions.of(Settings(**options), tmp_path / "app.tar")


def test_an_image_is_named_after_its_output(tmp_path: Path) -> None:
    assert ImageOptions.of(Settings(), tmp_path / "My App.tar").tag == "my-app:latest"
    assert ImageOptions.of(Settings(image_name="localhost:5000/a"), tmp_path / "x").tag == "localhost:5000/a:latest"
