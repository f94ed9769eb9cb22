"""Bytes by chance, bred towards those that reach new code in Pillow, soundfile and our readers: ``make fuzz``.

    python fuzz_readers.py FOLDER [options of libFuzzer]

FOLDER keeps what reached new code, for the next run; what raised an unexpected exception is written there as crash-*.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "skltransfer", "soundfile"]):
    from fuzzing import SEEDS, read


def fuzz(data: bytes) -> None:
    """The first byte says which reader."""
    if data:
        read(data[1:], "image" if data[0] % 2 else "audio")


def sow(folder: Path) -> None:
    """One file of each format to begin with."""
    folder.mkdir(parents=True, exist_ok=True)
    for first, kind in ((b"\0", "audio"), (b"\1", "image")):
        for form, content in SEEDS[kind].items():
            (folder / form).write_bytes(first + content)


if __name__ == "__main__":
    sow(Path(sys.argv[1]))
    atheris.Setup([*sys.argv, f"-artifact_prefix={sys.argv[1]}/"], fuzz)
    atheris.Fuzz()
