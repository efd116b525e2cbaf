"""Publishing a layer with the installed command, to a server that speaks AWS's API; its state is asked with boto3."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import hcl2
import pytest

from layer_minimizer.aws.publish import UploadMethod, publish
from layer_minimizer.core.errors import UsageError
from tests.support import command
from tests.support.cloud import REGION, Cloud, free_port
from tests.support.places import EXAMPLES, MINIMIZE, PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.command import Ended

EXAMPLE = EXAMPLES / "publish"
USAGE, PACK, PUBLISH, INTERRUPTED = 2, 5, 8, 130
REQUEST_BYTES = 69_905_067
FILES = {"python/lib/python3.12/site-packages/alpha.py": b"VALUE = 1\n"}


@dataclass
class PublishDesk:
    """An empty home, a folder for zips, and the command."""

    folder: Path
    cloud: Cloud
    layer: str
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "home").mkdir()
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder / "home"),
            "AWS_ENDPOINT_URL": self.cloud.endpoint,
            "AWS_ACCESS_KEY_ID": self.cloud.keys[0],
            "AWS_SECRET_ACCESS_KEY": self.cloud.keys[1],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def zip(
        self, files: dict[str, bytes] | None = None, name: str = "layer.zip", method: int = zipfile.ZIP_DEFLATED
    ) -> Path:
        path = self.folder / name
        with zipfile.ZipFile(path, "w", method) as archive:
            for file, content in (FILES if files is None else files).items():
                archive.writestr(zipfile.ZipInfo(file), content, compress_type=method)
        return path

    def arguments(self, archive: Path, *args: object) -> list[str]:
        given = [str(arg) for arg in args]
        for option, value in (("--name", self.layer), ("--runtime", "python3.12")):
            if option not in given:
                given += [option, value]
        return ["publish", str(archive), *given]

    def command(self, archive: Path, *args: object) -> list[str]:
        return [str(MINIMIZE), *self.arguments(archive, *args)]

    def publish(self, archive: Path, *args: object, code: int = 0) -> Ended:
        ended = command.run(self.arguments(archive, *args), self.variables, self.folder)
        assert ended.code == code, f"exit code {ended.code}, not {code}\n{ended.err}\n{ended.out}"
        assert "Traceback" not in ended.err
        if code:
            assert ended.out == ""
        return ended

    def fails(self, code: int, words: list[str], archive: Path, *args: object) -> Ended:
        """Require the exit code, all words in the message, and that nothing was published."""
        ended = self.publish(archive, *args, code=code)
        missing = [word for word in words if word not in ended.err]
        assert not missing, f"{missing} not in:\n{ended.err}"
        assert self.cloud.versions(self.layer) == []
        return ended

    def arn(self, version: int) -> str:
        return f"arn:aws:lambda:{REGION}:123456789012:layer:{self.layer}:{version}"


@pytest.fixture
def desk(tmp_path: Path, cloud: Cloud, request: pytest.FixtureRequest) -> PublishDesk:
    """Return a desk whose layer has a name of its own, so that all tests can share one server."""
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    return PublishDesk(tmp_path, cloud, f"layer-{name}")


@pytest.fixture
def bucket(desk: PublishDesk) -> str:
    return desk.cloud.bucket(f"bucket-{desk.layer}")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a layer that is too large for a request."""
    path = tmp_path_factory.mktemp("large") / "layer.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(next(iter(FILES)), random.Random(0).randbytes(53_000_000))
    return path


@contextlib.contextmanager
def relay(
    cloud: Cloud, disturb: Callable[[http.server.BaseHTTPRequestHandler, Callable[[], None]], bool]
) -> Iterator[str]:
    """Stand between command and server as a bad network does: ``disturb`` says whether a request is dealt with."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if disturb(self, self.pass_on):
                self.close_connection = True
            else:
                self.pass_on()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - as http.server looks for them

        def pass_on(self, *, answer: bool = True) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection(urlsplit(cloud.endpoint).netloc)
            server.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            got = server.getresponse()
            content = got.read()
            server.close()
            if not answer:
                return
            self.send_response_only(got.status)
            for name, value in got.getheaders():
                if name.lower() not in {"connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def is_publishing(handler: http.server.BaseHTTPRequestHandler) -> bool:
    return handler.command == "POST" and "/layers/" in handler.path


# ---- published -------------------------------------------------------------------------------------------------------


def test_created_then_identical_then_changed(desk: PublishDesk) -> None:
    archive = desk.zip()
    digest = base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode()
    options = ("--architecture", "x86_64", "--description", "packages", "--license", "MIT")
    first = desk.publish(archive, *options)
    assert first.out == f"{desk.arn(1)}\n"
    assert f"published {desk.arn(1)}" in first.err
    (version,) = desk.cloud.versions(desk.layer)
    assert version["CompatibleRuntimes"] == ["python3.12"]
    assert version["CompatibleArchitectures"] == ["x86_64"]
    assert (version["Description"], version["LicenseInfo"]) == ("packages", "MIT")
    got = desk.cloud.client("lambda").get_layer_version(LayerName=desk.layer, VersionNumber=1)
    assert got["Content"]["CodeSha256"] == digest

    again = desk.publish(archive, *options)
    assert again.out == f"{desk.arn(1)}\n"
    assert "identical" in again.err
    assert len(desk.cloud.versions(desk.layer)) == 1

    changed = desk.publish(desk.zip({next(iter(FILES)): b"VALUE = 2\n"}), *options)
    assert changed.out == f"{desk.arn(2)}\n"
    assert {version["Version"] for version in desk.cloud.versions(desk.layer)} == {1, 2}


def test_only_the_newest_version_counts(desk: PublishDesk) -> None:
    one, two = desk.zip(name="one.zip"), desk.zip({"python/b.py": b""}, name="two.zip")
    assert [desk.publish(path).out for path in (one, two, one)] == [f"{desk.arn(number)}\n" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "more", [("--runtime", "python3.13"), ("--architecture", "arm64")], ids=["runtime", "architecture"]
)
def test_other_runtimes_or_architectures_are_another_version(desk: PublishDesk, more: tuple[str, str]) -> None:
    archive = desk.zip({"python/alpha.py": b""})
    desk.publish(archive, "--runtime", "python3.12")
    assert desk.publish(archive, "--runtime", "python3.12", *more).out == f"{desk.arn(2)}\n"
    assert desk.publish(archive, *more, "--runtime", "python3.12").out == f"{desk.arn(2)}\n"


def test_json(desk: PublishDesk) -> None:
    archive = desk.zip()
    expected = {
        "arn": desk.arn(1),
        "version": 1,
        "code_sha256": base64.b64encode(hashlib.sha256(archive.read_bytes()).digest()).decode(),
        "created": True,
        "through": "direct",
        "bytes": archive.stat().st_size,
        "unzipped_bytes": 10,
    }
    assert json.loads(desk.publish(archive, "--json").out) == expected
    assert json.loads(desk.publish(archive, "--json").out) == {**expected, "created": False}


def test_quiet_and_verbose(desk: PublishDesk) -> None:
    assert desk.publish(desk.zip(), "--quiet").err == ""
    verbose = desk.publish(desk.zip({"python/b.py": b""}), "--verbose")
    assert "published" in verbose.err
    # boto3 would tell how requests are signed.
    assert "botocore" not in verbose.err
    assert "AWS4-HMAC" not in verbose.err


def test_region_of_the_option_wins(desk: PublishDesk) -> None:
    done = desk.publish(desk.zip(), "--region", "us-east-2")
    assert done.out == desk.arn(1).replace(REGION, "us-east-2") + "\n"
    assert desk.cloud.versions(desk.layer) == []


def test_as_a_library(desk: PublishDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, desk.variables[name])
    done = publish(desk.zip(), name=desk.layer, runtimes=["python3.12"])
    assert (done.arn, done.version, done.created, done.through) == (desk.arn(1), 1, True, UploadMethod.DIRECT)
    with pytest.raises(UsageError, match="--runtime is given 0 times"):
        publish(desk.zip(), name=desk.layer, runtimes=[])
    with pytest.raises(UsageError, match="--architecture mips"):
        publish(desk.zip(), name=desk.layer, runtimes=["python3.12"], architectures=["mips"])


# ---- dry run ---------------------------------------------------------------------------------------------------------


def test_dry_run(desk: PublishDesk) -> None:
    archive = desk.zip()
    dry = desk.publish(archive, "--dry-run")
    assert dry.out == ""
    assert f"would publish {archive}" in dry.err
    assert "directly" in dry.err
    assert "no version yet" in dry.err
    assert desk.cloud.versions(desk.layer) == []
    desk.publish(archive)
    assert desk.publish(archive, "--dry-run").out == f"{desk.arn(1)}\n"
    changed = json.loads(desk.publish(desk.zip({"python/b.py": b""}), "--dry-run", "--json").out)
    assert (changed["arn"], changed["version"], changed["created"]) == (None, None, False)
    assert len(desk.cloud.versions(desk.layer)) == 1


def test_dry_run_through_s3_uploads_nothing(desk: PublishDesk, large: Path) -> None:
    dry = desk.publish(large, "--dry-run", "--bucket", "no-such-bucket")
    assert "through s3://no-such-bucket" in dry.err


# ---- through S3 ------------------------------------------------------------------------------------------------------


def test_largest_request_goes_directly_and_one_more_does_not(desk: PublishDesk) -> None:
    name = next(iter(FILES))
    around = desk.zip({name: b""}, method=zipfile.ZIP_STORED).stat().st_size
    fields = json.dumps({"LayerName": desk.layer, "CompatibleRuntimes": ["python3.12"], "Content": {"ZipFile": ""}})
    most = (REQUEST_BYTES - 1 - len(fields)) // 4 * 3
    archive = desk.zip({name: bytes(most - around)}, method=zipfile.ZIP_STORED)
    assert archive.stat().st_size == most
    assert desk.publish(archive).out == f"{desk.arn(1)}\n"
    more = desk.zip({name: bytes(most - around + 1)}, method=zipfile.ZIP_STORED)
    refused = desk.publish(more, code=PACK)
    assert "--bucket" in refused.err


def test_over_50_mb_without_a_bucket_is_refused(desk: PublishDesk, large: Path) -> None:
    desk.fails(PACK, [str(large), "50 MB", "--bucket", f"{large.stat().st_size:,}"], large)


def test_through_s3_and_the_object_is_gone(desk: PublishDesk, bucket: str, large: Path) -> None:
    desk.cloud.client("s3").put_object(Bucket=bucket, Key="other", Body=b"other")
    done = desk.publish(large, "--bucket", bucket, "--json")
    assert json.loads(done.out)["through"] == "s3"
    assert json.loads(done.out)["arn"] == desk.arn(1)
    assert f"uploading to s3://{bucket}/" in done.err
    assert f"deleted s3://{bucket}/" in done.err
    assert desk.cloud.objects(bucket) == ["other"]
    got = desk.cloud.client("lambda").get_layer_version(LayerName=desk.layer, VersionNumber=1)["Content"]
    assert got["CodeSize"] == large.stat().st_size
    assert "identical" in desk.publish(large, "--bucket", bucket).err


def test_nothing_is_left_in_a_bucket_with_versions(desk: PublishDesk, bucket: str, large: Path) -> None:
    s3 = desk.cloud.client("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert desk.publish(large, "--bucket", bucket).out == f"{desk.arn(1)}\n"
    found = s3.list_object_versions(Bucket=bucket)
    assert not found.get("Versions")
    assert not found.get("DeleteMarkers")


def test_object_stays_if_wanted(desk: PublishDesk, bucket: str, large: Path) -> None:
    desk.publish(large, "--bucket", bucket, "--key", "layers/mine.zip", "--keep-object")
    assert desk.cloud.objects(bucket) == ["layers/mine.zip"]


def test_existing_object_is_neither_overwritten_nor_deleted(desk: PublishDesk, bucket: str, large: Path) -> None:
    s3 = desk.cloud.client("s3")
    s3.put_object(Bucket=bucket, Key="taken.zip", Body=b"precious")
    desk.fails(PUBLISH, ["PreconditionFailed", "another --key"], large, "--bucket", bucket, "--key", "taken.zip")
    assert s3.get_object(Bucket=bucket, Key="taken.zip")["Body"].read() == b"precious"


def test_no_such_bucket(desk: PublishDesk, large: Path) -> None:
    desk.fails(PUBLISH, ["NoSuchBucket", "--bucket"], large, "--bucket", "no-such-bucket")


def test_bucket_of_a_bad_name(desk: PublishDesk, large: Path) -> None:
    desk.fails(USAGE, ["Invalid bucket name"], large, "--bucket", "no bucket!")


def test_object_is_gone_when_publishing_fails(desk: PublishDesk, bucket: str, large: Path) -> None:
    seen: list[list[str]] = []

    def refuse(handler: http.server.BaseHTTPRequestHandler, _pass_on: object) -> bool:
        if not is_publishing(handler):
            return False
        seen.append(desk.cloud.objects(bucket))
        handler.rfile.read(int(handler.headers["Content-Length"]))
        body = b'{"message": "Code storage limit exceeded."}'
        handler.send_response_only(400)
        handler.send_header("x-amzn-ErrorType", "CodeStorageExceededException")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    with relay(desk.cloud, refuse) as endpoint:
        desk.variables["AWS_ENDPOINT_URL"] = endpoint
        words = ["Code storage limit exceeded", "delete-layer-version", "deleted s3://"]
        desk.fails(PUBLISH, words, large, "--bucket", bucket)
    assert len(seen[0]) == 1
    assert desk.cloud.objects(bucket) == []


def test_lost_answer_of_an_upload_is_no_foreign_object(desk: PublishDesk, bucket: str, large: Path) -> None:
    uploads: list[str] = []

    def lose_first(handler: http.server.BaseHTTPRequestHandler, pass_on: Callable[..., None]) -> bool:
        if handler.command == "PUT":
            uploads.append(handler.path)
        if uploads != [handler.path] or handler.command != "PUT":
            return False
        pass_on(answer=False)
        return True

    with relay(desk.cloud, lose_first) as endpoint:
        desk.variables["AWS_ENDPOINT_URL"] = endpoint
        done = desk.publish(large, "--bucket", bucket, "--key", "mine.zip")
    assert len(uploads) == 2
    assert done.out == f"{desk.arn(1)}\n"
    assert desk.cloud.objects(bucket) == []


def _interrupt(process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """Send the signal each second until the process ends, and return its output.

    A signal that arrives between Python's last look at it and the system call that waits for the response is noticed
    only by the next one. Further ones do nothing.
    """
    for _ in range(30):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1)
    raise AssertionError("the process goes on")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_interrupted_while_publishing(desk: PublishDesk, bucket: str, large: Path, number: int) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold(handler: http.server.BaseHTTPRequestHandler, _pass_on: object) -> bool:
        if not is_publishing(handler):
            return False
        reached.set()
        over.wait(60)
        return True

    with relay(desk.cloud, hold) as endpoint:
        desk.variables["AWS_ENDPOINT_URL"] = endpoint
        process = subprocess.Popen(
            desk.command(large, "--bucket", bucket),
            env=desk.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert reached.wait(60)
            assert len(desk.cloud.objects(bucket)) == 1
            out, err = _interrupt(process, number)
        finally:
            over.set()
            process.kill()
            process.wait()
    assert process.returncode == INTERRUPTED
    assert out == ""
    assert "interrupted" in err
    assert "list-layer-versions" in err
    assert "Traceback" not in err
    assert desk.cloud.objects(bucket) == []
    assert desk.cloud.versions(desk.layer) == []


def test_interrupted_while_deleting_the_object(desk: PublishDesk, bucket: str, large: Path) -> None:
    reached, over = threading.Event(), threading.Event()

    def hold_first(handler: http.server.BaseHTTPRequestHandler, _pass_on: object) -> bool:
        if handler.command != "DELETE" or reached.is_set():
            return False
        reached.set()
        over.wait(60)
        return True

    with relay(desk.cloud, hold_first) as endpoint:
        desk.variables["AWS_ENDPOINT_URL"] = endpoint
        process = subprocess.Popen(
            desk.command(large, "--bucket", bucket), env=desk.variables, stderr=subprocess.PIPE, text=True
        )
        try:
            assert reached.wait(60)
            _, err = _interrupt(process, signal.SIGINT)
        finally:
            over.set()
            process.kill()
            process.wait()
    assert process.returncode == INTERRUPTED, err
    assert desk.cloud.objects(bucket) == []


# ---- refused before AWS is asked -------------------------------------------------------------------------------------


def test_over_the_unzipped_limit(desk: PublishDesk) -> None:
    half = bytes(131_072_000)
    exact = desk.zip({"python/a": half, "python/b": half}, "exact.zip")
    assert desk.publish(exact, "--dry-run").code == 0
    over = desk.zip({"python/a": half, "python/b": half, "python/c": b"1"}, "over.zip")
    desk.fails(PACK, [str(over), "262,144,001", "262,144,000", "--cold drop"], over)


def test_damaged_content(desk: PublishDesk) -> None:
    archive = desk.zip({"python/alpha.py": b"VALUE = 1234567890\n"}, method=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"1234567890", b"1234567891"))
    desk.fails(USAGE, [str(archive), "damaged", "python/alpha.py", "create the layer again"], archive)


def test_zip_cut_short(desk: PublishDesk) -> None:
    archive = desk.zip()
    archive.write_bytes(archive.read_bytes()[:-30])
    desk.fails(USAGE, [str(archive), "as a zip"], archive)


def test_damaged_compressed_data(desk: PublishDesk) -> None:
    archive = desk.zip({"a": random.Random(0).randbytes(300).hex().encode()})
    content = bytearray(archive.read_bytes())
    content[40:60] = b"\xff" * 20
    archive.write_bytes(content)
    desk.fails(USAGE, [str(archive), "create the layer again"], archive)


def test_no_such_file(desk: PublishDesk) -> None:
    desk.fails(USAGE, ["absent.zip", "No such file", "name the zip"], desk.folder / "absent.zip")


def test_folder_instead_of_a_file(desk: PublishDesk) -> None:
    desk.fails(USAGE, ["Is a directory"], desk.folder)


def test_empty_zip(desk: PublishDesk) -> None:
    desk.fails(USAGE, ["is empty"], desk.zip({}))


def test_zip_of_folders_alone(desk: PublishDesk) -> None:
    desk.fails(USAGE, ["is empty"], desk.zip({"python/": b""}))


@pytest.mark.parametrize("name", ["/etc/alpha.py", "python/../../alpha.py", "..", "python\\..\\alpha.py"])
def test_names_outside_of_the_layer(desk: PublishDesk, name: str) -> None:
    desk.fails(USAGE, [repr(name), "outside"], desk.zip({**FILES, name: b""}))


@pytest.mark.parametrize(
    "name", ["my layer", "", "a" * 141, "arn:aws:lambda:eu-central-1:123456789012:layer:fastai:3", "näme"]
)
def test_bad_name(desk: PublishDesk, name: str) -> None:
    desk.fails(USAGE, [f"--name {name}", "140"], desk.zip(), "--name", name)


@pytest.mark.parametrize("name", ["a" * 140, "a-b_C1", "arn:aws:lambda:eu-central-1:123456789012:layer:fastai"])
def test_good_name(desk: PublishDesk, name: str) -> None:
    desk.publish(desk.zip(), "--name", name, "--dry-run")


def test_long_description_and_license(desk: PublishDesk) -> None:
    desk.fails(USAGE, ["--description", "257", "256"], desk.zip(), "--description", "x" * 257)
    desk.fails(USAGE, ["--license", "513", "512"], desk.zip(), "--license", "x" * 513)
    desk.publish(desk.zip(), "--description", "x" * 256, "--license", "x" * 512)


@pytest.mark.parametrize("runtime", ["python3", "3.12", "nodejs20.x", "python3.12 ", ""])
def test_bad_runtime(desk: PublishDesk, runtime: str) -> None:
    desk.fails(USAGE, [f"--runtime {runtime}", "python3.12"], desk.zip(), "--runtime", runtime)


def test_number_of_runtimes(desk: PublishDesk) -> None:
    runtimes = [part for minor in range(1, 17) for part in ("--runtime", f"python3.{minor}")]
    desk.fails(USAGE, ["16 times", "15"], desk.zip(), *runtimes)
    desk.publish(desk.zip(), *runtimes[2:])


def test_wrong_arguments(desk: PublishDesk) -> None:
    archive = desk.zip()
    desk.fails(USAGE, ["--bucket"], archive, "--key", "layer.zip")
    desk.fails(USAGE, ["--bucket"], archive, "--keep-object")
    desk.fails(USAGE, ["--architecture", "mips"], archive, "--architecture", "mips")
    done = subprocess.run([PROGRAMS / "minimize", "publish", archive], capture_output=True, text=True, check=False)
    assert done.returncode == USAGE
    assert "--name" in done.stderr
    assert "--runtime" in done.stderr


# ---- warnings --------------------------------------------------------------------------------------------------------


def test_layer_without_python_is_published_with_a_warning(desk: PublishDesk) -> None:
    done = desk.publish(desk.zip({"bin/tool": b""}))
    assert "python/" in done.err
    assert "warning" in done.err
    assert done.out == f"{desk.arn(1)}\n"


def test_packages_in_the_folder_of_another_python(desk: PublishDesk) -> None:
    runtimes = ("--runtime", "python3.13", "--runtime", "python3.12", "--runtime", "provided.al2023")
    done = desk.publish(desk.zip(), *runtimes)
    assert "python3.13 does not read it" in done.err
    assert done.err.count("does not read it") == 1
    assert done.out == f"{desk.arn(1)}\n"


# ---- AWS refuses -----------------------------------------------------------------------------------------------------


def test_no_boto3(desk: PublishDesk) -> None:
    desk.zip({"python/alpha.py": b""})
    hidden = desk.folder / "hidden"
    hidden.mkdir()
    (hidden / "boto3.py").write_text("raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n")
    desk.variables["PYTHONPATH"] = str(hidden)
    desk.fails(PUBLISH, ["boto3", "pip install 'layer_minimizer[aws]'"], desk.zip())


def test_no_credentials(desk: PublishDesk) -> None:
    del desk.variables["AWS_ACCESS_KEY_ID"], desk.variables["AWS_SECRET_ACCESS_KEY"]
    desk.fails(PUBLISH, ["Unable to locate credentials", "aws configure"], desk.zip())


def test_half_of_the_credentials(desk: PublishDesk) -> None:
    del desk.variables["AWS_SECRET_ACCESS_KEY"]
    desk.fails(PUBLISH, ["Partial credentials", "AWS_SECRET_ACCESS_KEY"], desk.zip())


def test_a_profile_has_the_credentials_and_the_region(desk: PublishDesk) -> None:
    variables = desk.variables
    desk.variables = {name: value for name, value in variables.items() if "KEY" not in name and "REGION" not in name}
    folder = Path(variables["HOME"], ".aws")
    folder.mkdir()
    keys = f"aws_access_key_id = {desk.cloud.keys[0]}\naws_secret_access_key = {desk.cloud.keys[1]}\n"
    (folder / "config").write_text(f"[profile work]\nregion = {REGION}\n{keys}")
    desk.fails(PUBLISH, ["Unable to locate credentials", "--profile"], desk.zip(), "--region", REGION)
    (desk.folder / "layer_minimizer.toml").write_text('[publish]\nprofile = "work"\n')
    assert desk.publish(desk.zip()).out == f"{desk.arn(1)}\n"
    desk.variables = variables
    assert len(desk.cloud.versions(desk.layer)) == 1
    ended = desk.publish(desk.zip(), "--profile", "absent", code=PUBLISH)
    assert "profile (absent) could not be found" in ended.err


def test_no_such_profile(desk: PublishDesk) -> None:
    desk.variables["AWS_PROFILE"] = "absent"
    desk.fails(PUBLISH, ["profile (absent) could not be found", "~/.aws/config"], desk.zip())


def test_no_region(desk: PublishDesk) -> None:
    del desk.variables["AWS_DEFAULT_REGION"]
    desk.fails(PUBLISH, ["You must specify a region", "--region"], desk.zip())


def test_no_such_region(desk: PublishDesk) -> None:
    desk.fails(PUBLISH, ["not a region!", "--region"], desk.zip(), "--region", "not a region!")


def test_unreachable(desk: PublishDesk) -> None:
    desk.variables |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_MAX_ATTEMPTS": "1"}
    desk.fails(PUBLISH, ["Could not connect to the endpoint URL", "network"], desk.zip())


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_MAX_ATTEMPTS", "many")])
def test_settings_without_sense(desk: PublishDesk, name: str, value: str) -> None:
    desk.variables[name] = value
    desk.fails(PUBLISH, [value, "AWS_*"], desk.zip())


def test_throttled_after_boto3s_own_attempts(desk: PublishDesk) -> None:
    attempts: list[str] = []

    def throttle(handler: http.server.BaseHTTPRequestHandler, _pass_on: object) -> bool:
        attempts.append(handler.path)
        handler.send_response_only(429)
        handler.send_header("x-amzn-ErrorType", "TooManyRequestsException")
        handler.send_header("Content-Length", "27")
        handler.end_headers()
        handler.wfile.write(b'{"message":"Rate exceeded"}')
        return True

    with relay(desk.cloud, throttle) as endpoint:
        desk.variables |= {"AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "2"}
        desk.fails(PUBLISH, ["Rate exceeded", "TooManyRequestsException", "AWS_MAX_ATTEMPTS"], desk.zip())
    assert len(attempts) == 2


def test_other_bytes_than_were_sent(desk: PublishDesk) -> None:
    def swap(handler: http.server.BaseHTTPRequestHandler, _pass_on: object) -> bool:
        if not is_publishing(handler):
            return False
        handler.rfile.read(int(handler.headers["Content-Length"]))
        content = {"CodeSha256": "other"}
        body = json.dumps({"LayerVersionArn": desk.arn(7), "Version": 7, "Content": content}).encode()
        handler.send_response_only(201)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        return True

    with relay(desk.cloud, swap) as endpoint:
        desk.variables["AWS_ENDPOINT_URL"] = endpoint
        desk.fails(PUBLISH, [desk.arn(7), "does not have the contents", "delete that version"], desk.zip())


@pytest.fixture
def strict(desk: PublishDesk) -> Iterator[Callable[..., None]]:
    """Make a user with some permissions, let the desk be his, and have the server look at them."""
    iam = desk.cloud.client("iam")

    def begin(*actions: str) -> None:
        user = f"user-{desk.layer}"
        iam.create_user(UserName=user)
        if actions:
            allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            iam.put_user_policy(UserName=user, PolicyName="some", PolicyDocument=policy)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        desk.variables |= {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        # This server takes the signature of every request without a body that Lambda gets for a wrong one: asking for
        # the newest version is let through, and what follows it is looked at.
        desk.cloud.authorize(after=1)

    yield begin
    desk.cloud.authorize(after=float("inf"))


@pytest.mark.parametrize("actions", [(), ("lambda:ListLayerVersions", "lambda:GetLayerVersion")], ids=["none", "read"])
def test_access_denied(desk: PublishDesk, strict: Callable[..., None], actions: tuple[str, ...]) -> None:
    strict(*actions)
    refused = desk.publish(desk.zip(), code=PUBLISH)
    assert "AccessDenied" in refused.err
    assert "is not authorized to perform: lambda:PublishLayerVersion" in refused.err
    assert "needs the permissions lambda:ListLayerVersions" in refused.err
    desk.cloud.authorize(after=float("inf"))
    assert desk.cloud.versions(desk.layer) == []


def test_access_denied_to_the_bucket(desk: PublishDesk, bucket: str, large: Path, strict: Callable[..., None]) -> None:
    strict("lambda:*")
    refused = desk.publish(large, "--bucket", bucket, code=PUBLISH)
    assert "AccessDenied" in refused.err
    assert "PutObject" in refused.err
    desk.cloud.authorize(after=float("inf"))
    assert desk.cloud.versions(desk.layer) == []
    assert desk.cloud.objects(bucket) == []


def test_permissions_that_the_message_names_suffice(
    desk: PublishDesk, bucket: str, large: Path, strict: Callable[..., None]
) -> None:
    source = subprocess.run(
        [sys.executable, "-c", "from layer_minimizer.aws import client; print(client._ALLOW)"],
        capture_output=True,
        text=True,
        check=True,
    )
    strict(*re.findall(r"(?:lambda|s3):\w+", source.stdout))
    assert desk.publish(large, "--bucket", bucket).out == f"{desk.arn(1)}\n"
    desk.cloud.authorize(after=float("inf"))
    assert desk.cloud.objects(bucket) == []


def test_object_that_may_not_be_deleted_is_named(
    desk: PublishDesk, bucket: str, large: Path, strict: Callable[..., None]
) -> None:
    strict("lambda:*", "s3:PutObject", "s3:GetObject")
    done = desk.publish(large, "--bucket", bucket, "--key", "mine.zip")
    assert done.out == f"{desk.arn(1)}\n"
    assert f"s3://{bucket}/mine.zip may still exist" in done.err
    assert "s3:DeleteObject" in done.err
    desk.cloud.authorize(after=float("inf"))
    assert desk.cloud.objects(bucket) == ["mine.zip"]


def test_unknown_key(desk: PublishDesk, strict: Callable[..., None]) -> None:
    strict()
    desk.cloud.authorize(after=0)
    desk.variables["AWS_ACCESS_KEY_ID"] = "AKIAUNKNOWN"
    refused = desk.publish(desk.zip(), code=PUBLISH)
    assert "InvalidClientTokenId" in refused.err
    assert "log in again" in refused.err


def test_wrong_secret(desk: PublishDesk, strict: Callable[..., None]) -> None:
    strict("lambda:*")
    desk.variables["AWS_SECRET_ACCESS_KEY"] = "wrong"
    refused = desk.publish(desk.zip(), code=PUBLISH)
    assert "SignatureDoesNotMatch" in refused.err
    assert "log in again" in refused.err


# ---- the rest of the command -----------------------------------------------------------------------------------------


def test_help_names_the_command_and_its_options() -> None:
    minimize = PROGRAMS / "minimize"
    assert "minimize publish" in subprocess.run([minimize, "--help"], capture_output=True, text=True, check=True).stdout
    own = subprocess.run([minimize, "publish", "--help"], capture_output=True, text=True, check=True).stdout
    assert own.startswith("usage: minimize publish")


def test_boto3_is_imported_only_to_publish() -> None:
    code = "import sys; import layer_minimizer.cli.main; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- examples --------------------------------------------------------------------------------------------------------


# ---- with a settings file --------------------------------------------------------------------------------------------


def test_layers_of_a_settings_file(desk: PublishDesk) -> None:
    one, two = f"{desk.layer}-1", f"{desk.layer}-2"
    desk.zip(name=f"{one}.zip")
    desk.zip({**FILES, "python/beta.py": b""}, name="other.zip")
    (desk.folder / "below").mkdir()
    (desk.folder / "layer_minimizer.toml").write_text(
        f'runtime = "python3.12"\narchitecture = "arm64"\npublish.license = "MIT"\n[layers.{one}]\n'
        f'[layers.b]\noutput = "other.zip"\npublish = {{name = "{two}", runtime = ["python3.11", "python3.12"]}}\n'
    )

    def told(*arguments: str) -> str:
        command = [PROGRAMS / "minimize", "publish", *arguments]
        options = {"cwd": desk.folder / "below", "env": desk.variables, "text": True, "timeout": 120}
        return subprocess.run(command, check=True, capture_output=True, **options).stdout

    arns = [f"arn:aws:lambda:{REGION}:123456789012:layer:{name}:1" for name in (one, two)]
    assert json.loads(told("--dry-run", "--json"))["layers"]["b"]["arn"] is None
    assert told() == f"{one} {arns[0]}\nb {arns[1]}\n"
    assert told("--layer", "b") == f"{arns[1]}\n"
    found = [desk.cloud.versions(name)[0] for name in (one, two)]
    assert [version["CompatibleRuntimes"] for version in found] == [["python3.12"], ["python3.11", "python3.12"]]
    assert [version["CompatibleArchitectures"] for version in found] == [["arm64"], ["arm64"]]
    assert [version["LicenseInfo"] for version in found] == ["MIT", "MIT"]
    # Another zip has another name, and nothing of what is said of these.
    desk.publish(desk.zip(), "--description", "mine")
    assert not desk.cloud.versions(desk.layer)[0].get("LicenseInfo")


def lint(template: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROGRAMS / "cfn-lint", template], capture_output=True, text=True, check=False)


def test_sam_template_is_valid_and_uses_the_layer(tmp_path: Path) -> None:
    template = EXAMPLE / "template.yaml"
    done = lint(template)
    assert done.returncode == 0, done.stdout
    text = template.read_text()
    assert "Layers:\n        - !Ref LayerArn\n" in text
    # What is checked is the function after the transform, and not YAML alone.
    broken = tmp_path / "template.yaml"
    broken.write_text(text.replace("- !Ref LayerArn", "- !Ref Layer"))
    refused = lint(broken)
    assert refused.returncode != 0
    assert "'Layer' is not one of" in refused.stdout
    assert "'FunctionRole'" in refused.stdout


def test_terraform_file_is_valid_and_uses_the_layer() -> None:
    with (EXAMPLE / "main.tf").open() as file:
        content = hcl2.load(file)
    functions = [block['"aws_lambda_function"'] for block in content["resource"] if '"aws_lambda_function"' in block]
    (function,) = functions
    assert function['"function"']["layers"] == ["${var.layer_arn}"]
    assert '"layer_arn"' in content["variable"][0]


@pytest.mark.parametrize("file", ["template.yaml", "main.tf"])
def test_examples_take_the_arn_that_is_printed(file: str, desk: PublishDesk) -> None:
    (pattern,) = set(re.findall(r"\^arn:.*?\+\$", (EXAMPLE / file).read_text()))
    assert re.match(pattern, desk.publish(desk.zip()).out)
    assert not re.match(pattern, desk.arn(1).rpartition(":")[0])


def test_function_of_the_examples_is_where_they_look_for_it() -> None:
    assert "CodeUri: function/" in (EXAMPLE / "template.yaml").read_text()
    assert '"${path.module}/function"' in (EXAMPLE / "main.tf").read_text()
    assert (EXAMPLE / "function" / "handler.py").is_file()
