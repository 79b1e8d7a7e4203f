"""Processes that see a processor with AVX2 at most: what --instructions avx2 of the benchmarks does."""
import os
import subprocess
from pathlib import Path

TOOLS = Path(__file__).resolve().parent


def hide_avx512():
    """What the environment has to say for processes to see a processor with AVX2 at most."""
    source, library = TOOLS / "hide-avx512.c", TOOLS.parent / "target/hide-avx512.so"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        library.parent.mkdir(exist_ok=True)
        build = ["cc", "-O2", "-shared", "-fPIC", "-Wl,-z,initfirst", "-o", library, source, "-ldl"]
        subprocess.run(build, check=True)
    # libc asks before the library is there
    libc = ",".join(f"-AVX512{part}" for part in ("F", "VL", "BW", "DQ", "CD"))
    settings = {"LD_PRELOAD": str(library), "GLIBC_TUNABLES": f"glibc.cpu.hwcaps={libc}"}
    subprocess.run(["true"], env=os.environ | settings, check=True)
    return settings
