"""Which instruction sets llama.cpp is compiled with."""

import shutil

import pytest


@pytest.fixture(scope="module")
def llama_build(benchmark_module):
    return benchmark_module("llama_build")


def test_what_the_kernel_lists_is_on_and_the_rest_is_off(llama_build):
    arguments = llama_build.cmake_arguments(("sse4_2", "avx", "avx2", "fma", "f16c", "bmi2"), amx=False)
    assert "-DGGML_NATIVE=OFF" in arguments
    assert "-DGGML_AVX2=ON" in arguments
    assert "-DGGML_AVX512=OFF" in arguments


def test_amx_needs_more_than_a_flag(llama_build):
    present = ("avx2", "amx_tile", "amx_int8")
    assert "-DGGML_AMX_INT8=OFF" in llama_build.cmake_arguments(present, amx=False)
    assert "-DGGML_AMX_INT8=ON" in llama_build.cmake_arguments(present, amx=True)
    assert "-DGGML_AMX_BF16=OFF" in llama_build.cmake_arguments(present, amx=True)


def test_where_nothing_is_known_the_compiler_chooses(llama_build):
    assert llama_build.cmake_arguments((), amx=False) == ()


def test_other_instruction_sets_are_another_build(llama_build):
    builds = [llama_build.cmake_arguments((flag,), amx=False) for flag in ("avx", "fma")]
    names = {llama_build.build_name(arguments) for arguments in builds}
    assert len(names) == 2


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_program_is_tried(llama_build):
    assert llama_build.runs("int main(void) { return 0; }")
    assert not llama_build.runs("int main(void) { return 3; }")
    assert not llama_build.runs("no C at all")
    assert not llama_build.runs("#include <signal.h>\nint main(void) { return raise(SIGILL); }")
