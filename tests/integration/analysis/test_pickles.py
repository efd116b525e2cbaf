"""The reader of model files, with real pickles, compared with the names that a real unpickler looks up."""

import io
import struct
import subprocess
import sys
from pathlib import Path


def test_a_large_payload_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "model"
    end = b"\x8c\x07decimal\x8c\x07Decimal\x93\x86."
    with path.open("wb") as stream:
        stream.write(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 30))
        stream.seek(1 << 30, io.SEEK_CUR)  # a hole in the file takes no room on the disk
        stream.write(end)
    limit = 1 << 29
    script = tmp_path / "script.py"
    script.write_text(
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from layer_minimizer.analysis.pickles import read_globals\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
        "print(read_globals(Path(sys.argv[1])).globals)\n"
    )
    ran = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, check=True, text=True)
    assert ran.stdout == "(('decimal', 'Decimal'),)\n"
