"""Compresses generated files in several formats, as SeBS' compression does with a folder."""

import io
import lzma
import zipfile
import zlib

import zstandard


def handler(event, context):
    files = {f"{number}.txt": f"line {number} of {event['name']}\n".encode() * number for number in event["lengths"]}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    whole = b"".join(files.values())
    packed = zstandard.ZstdCompressor(level=9).compress(whole)
    again = zstandard.ZstdDecompressor().decompress(packed) == whole
    sizes = [len(whole), len(packed), len(lzma.compress(whole)), len(zlib.compress(whole))]
    return {"sizes": sizes, "same": again, "zipped": zlib.crc32(target.getvalue())}
