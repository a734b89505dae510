"""How llama.cpp is compiled on this machine: with the instruction sets that its kernel lists, tried where a
list is not enough.

Left to itself it compiles for what the processor says of itself. On virtual machines that show AMX without
letting programs use it, that build ends with an illegal instruction; so AMX is in only where a small program
that uses it runs to its end.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path

from edgesdk.devices.cpu import instruction_sets

_SWITCHES = {
    "GGML_SSE42": "sse4_2",
    "GGML_AVX": "avx",
    "GGML_AVX2": "avx2",
    "GGML_BMI2": "bmi2",
    "GGML_FMA": "fma",
    "GGML_F16C": "f16c",
    "GGML_AVX_VNNI": "avx_vnni",
    "GGML_AVX512": "avx512bw",  # with all of F, CD, DQ and VL, which no processor has without it
    "GGML_AVX512_VBMI": "avx512vbmi",
    "GGML_AVX512_VNNI": "avx512_vnni",
    "GGML_AVX512_BF16": "avx512_bf16",
}
_AMX_SWITCHES = {"GGML_AMX_TILE": "amx_tile", "GGML_AMX_INT8": "amx_int8", "GGML_AMX_BF16": "amx_bf16"}

_USES_AMX = """\
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    unsigned char layout[64];
    if (syscall(SYS_arch_prctl, 0x1023, 18)) return 1;  /* ask the kernel for tile data */
    memset(layout, 0, sizeof layout);
    layout[0] = 1;                                      /* palette */
    layout[16] = layout[18] = layout[20] = 64;          /* bytes of a row of tiles 0 to 2 */
    layout[48] = layout[49] = layout[50] = 16;          /* rows */
    _tile_loadconfig(layout);
    _tile_zero(0); _tile_zero(1); _tile_zero(2);
    _tile_dpbssd(0, 1, 2);
    _tile_release();
    return 0;
}
"""


def cmake_arguments(present: Collection[str], *, amx: bool) -> tuple[str, ...]:
    """Definitions for CMake; none where the compiler's own choice is left alone.

    Args:
        present: the processor's instruction sets by Linux's names; empty where they are not known.
        amx: whether programs may use AMX here.
    """
    if not present:
        return ()
    chosen = {switch: flag in present for switch, flag in _SWITCHES.items()}
    chosen |= {switch: amx and flag in present for switch, flag in _AMX_SWITCHES.items()}
    return ("-DGGML_NATIVE=OFF", *(f"-D{switch}={'ON' if on else 'OFF'}" for switch, on in chosen.items()))


def arguments_here() -> tuple[str, ...]:
    """Definitions for CMake on this machine; those of x86-64 only, elsewhere the compiler chooses."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    present = instruction_sets()
    return cmake_arguments(present, amx="amx_tile" in present and runs(_USES_AMX, "-mamx-tile", "-mamx-int8"))


def build_name(arguments: Collection[str]) -> str:
    """A short name for a build, so that a cache which moves to another machine is not used there."""
    return hashlib.sha256(" ".join(arguments).encode()).hexdigest()[:8]


def runs(program: str, *flags: str) -> bool:
    """Whether a C program compiles with these flags and ends with status 0."""
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "probe.c", Path(folder) / "probe"
        source.write_text(program, encoding="utf-8")
        for command in (["cc", *flags, "-o", str(binary), str(source)], [str(binary)]):
            try:
                done = subprocess.run(command, capture_output=True, timeout=60, check=False)
            except (OSError, subprocess.TimeoutExpired):
                return False
            if done.returncode:
                return False
    return True
