"""The C decoder against Python's encoder; damaged input results in an error or other bytes, nothing else."""

import ctypes
import lzma
import os
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from layer_minimizer.native import coldstore

LIBRARY = """
#include "lzma.h"
#include "x86code.h"
static uint16_t probabilities[LZMA_PROBS];
int decode(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size) {
    return lzma_decode(in, in_size, out, out_size, probabilities);
}
void relative(uint8_t *code, size_t size) {
    x86_relative(code, size);
}
"""
# Reads (size of input, size of output, input) until the end; each buffer has exactly the size that it must have.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lzma.h"
int main(void) {
    uint32_t sizes[2];
    while (fread(sizes, 4, 2, stdin) == 2) {
        uint8_t *in = malloc(sizes[0]), *out = malloc(sizes[1]);
        uint16_t *probabilities = malloc(LZMA_PROBS * sizeof *probabilities);
        if (fread(in, 1, sizes[0], stdin) != sizes[0]) return 2;
        putchar(lzma_decode(in, sizes[0], out, sizes[1], probabilities) ? 'e' : 'o');
        free(in), free(out), free(probabilities);
    }
    return 0;
}
"""
Decode = Callable[[bytes, int], bytes | None]


@pytest.fixture(scope="module")
def decoders(kit: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("lzma")
    (folder / "decode.c").write_text(LIBRARY)
    flags = ["-O2", "-shared", "-fPIC", f"-I{kit.SOURCES}"]
    library = ctypes.CDLL(str(kit.build("gcc", folder / "decode.so", *flags, folder / "decode.c")))
    library.decode.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    library.relative.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.relative.restype = None
    return library


@pytest.fixture(scope="module")
def decode(decoders: ctypes.CDLL) -> Decode:
    def decode(packed: bytes, size: int) -> bytes | None:
        out = ctypes.create_string_buffer(size + 1)
        return None if decoders.decode(packed, len(packed), out, size) else out.raw[:size]

    return decode


@pytest.fixture(scope="module")
def relative(decoders: ctypes.CDLL) -> Callable[[bytes], bytes]:
    def relative(code: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(code, len(code) + 1)
        decoders.relative(buffer, len(code))
        return buffer.raw[: len(code)]

    return relative


@pytest.fixture(scope="module")
def checked(kit: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the decoder as a program that ends at the first access outside its buffers."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "decode.c").write_text(PROGRAM)
    program = folder / "decode"
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{kit.SOURCES}"]
    if kit.execute(kit.need("gcc"), "-o", program, *flags, folder / "decode.c").returncode:
        pytest.skip("gcc has no sanitizers here")
    return program


def encode(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=coldstore._filters(len(data), code=False))


def structured(seed: int, size: int) -> bytes:
    """Return data with literals, near and far repeats, and runs, as code has them."""
    dice = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        kind = dice.randrange(4)
        if kind == 0 or not data:
            data += dice.randbytes(dice.randrange(1, 40))
        elif kind == 1:
            data += bytes([dice.randrange(256)]) * dice.randrange(1, 600)
        else:
            far = len(data) if kind == 2 else min(len(data), 64)
            start = len(data) - dice.randrange(1, far + 1)
            data += data[start : start + dice.randrange(1, 300)]
            if dice.random() < 0.3:
                data[-1] ^= 1 << dice.randrange(8)
    return bytes(data[:size])


data_strategy = st.one_of(
    st.binary(max_size=3000),
    st.text("ab\n", max_size=3000).map(str.encode),
    st.builds(structured, st.integers(0, 2**32), st.integers(0, 140_000)),
    st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 2**32), st.integers(0, 70_000)),
)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=data_strategy)
@example(data=b"")
@example(data=b"a")
@example(data=bytes(131_072))
@example(data=structured(1, 131_072))
@example(data=structured(2, 1_500_000))
def test_what_python_encodes_is_decoded(data: bytes, decode: Decode) -> None:
    assert decode(encode(data), len(data)) == data


def filtered(code: bytes) -> bytes:
    """Return the output of the encoder's filter for x86 machine code."""
    packed = lzma.compress(code, format=lzma.FORMAT_RAW, filters=coldstore._filters(len(code), code=True))
    return lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=coldstore._filters(len(code), code=False))


# Mostly opcodes and the bytes that mark an offset as near, so that offsets overlap.
alike_code = st.lists(st.sampled_from([0xE8, 0xE9, 0x00, 0xFF, 0x01, 0x7F, 0x80, 0xFE]), max_size=80).map(bytes)


@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(code=st.one_of(alike_code, st.builds(bytes.__add__, st.binary(max_size=600).map(lambda b: b * 9), alike_code)))
def test_the_filter_for_machine_code_is_reversed(code: bytes, relative: Callable[[bytes], bytes]) -> None:
    assert relative(filtered(code)) == code


def test_machine_code_of_a_real_program_is_restored(relative: Callable[[bytes], bytes]) -> None:
    code = Path(os.path.realpath("/bin/bash")).read_bytes()[: 1 << 20]
    assert filtered(code) != code
    assert relative(filtered(code)) == code


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(code=alike_code)
def test_the_filter_ends_on_any_bytes(code: bytes, relative: Callable[[bytes], bytes]) -> None:
    assert len(relative(code)) == len(code)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), size=st.integers(200, 20_000), cut=st.floats(0, 0.95))
def test_a_truncated_stream_is_an_error(seed: int, size: int, cut: float, decode: Decode) -> None:
    packed = encode(random.Random(seed).randbytes(size))
    assert decode(packed[: int(len(packed) * cut)], size) is None


def test_more_bytes_than_were_encoded_are_an_error(decode: Decode) -> None:
    data = structured(3, 5000)
    assert decode(encode(data), 50_000) is None


def test_a_first_byte_other_than_zero_is_an_error(decode: Decode) -> None:
    packed = encode(b"some text, some text")
    assert decode(b"\x01" + packed[1:], 20) is None


def damaged_streams(dice: random.Random) -> list[tuple[bytes, int]]:
    streams = []
    for _ in range(150):
        data = structured(dice.getrandbits(32), dice.randrange(1, 8000))
        packed = bytearray(encode(data))
        for _ in range(dice.randrange(1, 4)):
            packed[dice.randrange(len(packed))] ^= 1 << dice.randrange(8)
        streams.append((bytes(packed), len(data)))
        streams.append((bytes(packed[: dice.randrange(len(packed) + 1)]), len(data)))
        streams.append((bytes(packed), dice.randrange(1, 2 * len(data) + 1)))
        streams.append((b"\0" + dice.randbytes(dice.randrange(200)), dice.randrange(1, 4000)))
        streams.append((dice.randbytes(dice.randrange(20)), dice.randrange(4000)))
    return streams


@pytest.mark.parametrize("seed", range(4))
def test_damaged_streams_never_reach_beyond_the_buffers(seed: int, checked: Path) -> None:
    streams = damaged_streams(random.Random(seed))
    fed = b"".join(struct.pack("<II", len(packed), size) + packed for packed, size in streams)
    done = subprocess.run([checked], input=fed, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()[:2000]
    assert len(done.stdout) == len(streams)
    assert {ord("e"), ord("o")} == set(done.stdout)


def test_the_sanitizers_would_see_an_access_beyond_the_buffers(kit: ModuleType, checked: Path, tmp_path: Path) -> None:
    """Show that the test above can fail: the same program, with too large a size passed to the decoder."""
    source = PROGRAM.replace("out, sizes[1], prob", "out, sizes[1] + 1, prob")
    (tmp_path / "decode.c").write_text(source)
    flags = ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{kit.SOURCES}"]
    program = kit.build("gcc", tmp_path / "decode", *flags, tmp_path / "decode.c")
    packed = encode(b"abcdefgh" * 9)
    fed = struct.pack("<II", len(packed), 71) + packed
    assert checked.exists()
    done = subprocess.run([program], input=fed, check=False, capture_output=True, timeout=60)
    assert b"heap-buffer-overflow" in done.stderr
