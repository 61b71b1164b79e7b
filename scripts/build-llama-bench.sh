#!/bin/sh
# Builds llama.cpp's llama-batched-bench and llama-quantize from the source package of
# llama-cpp-python, for `understudy bench serve --llama DIR`. Needs pip, cmake and a C++ compiler.
# Where the processor has AMX that should be clang: built by gcc 12, llama.cpp's products of
# quantised weights fault where they configure the tiles.
#
#   scripts/build-llama-bench.sh [FOLDER]    prints the directory to name
#
# With UNDERSTUDY_INSTRUCTIONS=avx2 or avx-vnni it uses nothing wider, as `understudy` does then.
set -eu
folder=${1:-target/llama}
case "${UNDERSTUDY_INSTRUCTIONS:-}" in
    "") build=build instructions="-DGGML_NATIVE=ON" ;;
    avx2) build=build-avx2 instructions="-DGGML_NATIVE=OFF" ;;
    avx-vnni) build=build-avx-vnni instructions="-DGGML_NATIVE=OFF -DGGML_AVX_VNNI=ON" ;;
    *) echo "llama.cpp is built for avx2, avx-vnni, or all there is" >&2; exit 2 ;;
esac
if [ -z "${CXX:-}" ] && grep -qw amx_int8 /proc/cpuinfo 2>/dev/null; then
    if command -v clang++ >/dev/null; then
        export CC=clang CXX=clang++
    else
        echo "this processor has AMX: if llama-batched-bench crashes, install clang and libomp-dev" >&2
    fi
fi
mkdir -p "$folder"
if ! ls "$folder"/llama_cpp_python-*.tar.gz >/dev/null 2>&1; then
    python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --no-build-isolation \
        --dest "$folder" llama-cpp-python >&2 ||
        python3 -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$folder" \
            llama-cpp-python >&2
fi
tar -C "$folder" -xzf "$folder"/llama_cpp_python-*.tar.gz
source=$(ls -d "$folder"/llama_cpp_python-*/vendor/llama.cpp)
# shellcheck disable=SC2086
cmake -S "$source" -B "$source/$build" -DCMAKE_BUILD_TYPE=Release $instructions \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_CURL=OFF >&2
cmake --build "$source/$build" --target llama-batched-bench llama-quantize -j "$(nproc)" >&2
echo "$source/$build/bin"
