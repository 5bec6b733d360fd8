# Finds LibTorch and defines atelier::torch.
#
# Looked for in this order: ATELIER_TORCH_ROOT, Torch_DIR, CMAKE_PREFIX_PATH (the last two as CMake or environment variables),
# the project's .venv, an installed `torch` wheel of python3. scripts/setup/python.sh keeps the same order.
# find_package(Torch) is not used: of a CUDA wheel it demands a whole CUDA toolkit, while our sources only need the
# headers and libraries that are in the wheel.
set(ATELIER_TORCH_SERIES 2.13)
if(NOT ATELIER_TORCH_ROOT)
  set(_hints "")
  foreach(_folder IN ITEMS "${Torch_DIR}" "$ENV{Torch_DIR}")
    if(_folder)
      list(APPEND _hints "${_folder}/../../..")
    endif()
  endforeach()
  string(REPLACE ":" ";" _prefixes "$ENV{CMAKE_PREFIX_PATH}")
  foreach(_prefix IN LISTS CMAKE_PREFIX_PATH _prefixes)
    list(APPEND _hints "${_prefix}" "${_prefix}/torch")
  endforeach()
  file(GLOB _venv "${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
  list(APPEND _hints ${_venv})
  execute_process(COMMAND python3 -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
                  OUTPUT_VARIABLE _wheel OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  list(APPEND _hints ${_wheel})
  foreach(_hint IN LISTS _hints)
    if(EXISTS "${_hint}/lib/libtorch_cpu.so" AND EXISTS "${_hint}/include/ATen/ATen.h")
      get_filename_component(_root "${_hint}" ABSOLUTE)
      set(ATELIER_TORCH_ROOT "${_root}" CACHE PATH "LibTorch's folder, with include/ and lib/")
      break()
    endif()
  endforeach()
endif()
if(NOT EXISTS "${ATELIER_TORCH_ROOT}/lib/libtorch_cpu.so")
  message(FATAL_ERROR "LibTorch not found. Run ./scripts/quickstart, which installs it, or set CMAKE_PREFIX_PATH to it.")
endif()

set(ATELIER_TORCH_VERSION "unknown")
if(EXISTS "${ATELIER_TORCH_ROOT}/include/torch/headeronly/version.h")
  file(STRINGS "${ATELIER_TORCH_ROOT}/include/torch/headeronly/version.h" _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE "[^0-9;]" "" _numbers "${_lines}")
  string(REPLACE ";" "." ATELIER_TORCH_VERSION "${_numbers}")
endif()
# Another LibTorch in the same place may have other parts.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${ATELIER_TORCH_ROOT}/include/torch/headeronly/version.h")
message(STATUS "LibTorch ${ATELIER_TORCH_VERSION} in ${ATELIER_TORCH_ROOT}")
if(NOT ATELIER_TORCH_VERSION MATCHES "^${ATELIER_TORCH_SERIES}\\.")
  message(WARNING "Atelier is written for LibTorch ${ATELIER_TORCH_SERIES}; other versions may not build, or give other results.")
endif()

set(_lib "${ATELIER_TORCH_ROOT}/lib")
add_library(atelier_torch INTERFACE)
add_library(atelier::torch ALIAS atelier_torch)
target_include_directories(atelier_torch SYSTEM INTERFACE
    "${ATELIER_TORCH_ROOT}/include" "${ATELIER_TORCH_ROOT}/include/torch/csrc/api/include")
target_link_libraries(atelier_torch INTERFACE "${_lib}/libtorch_cpu.so" "${_lib}/libc10.so")
set(ATELIER_TORCH_LIBRARIES "${_lib}/libtorch_cpu.so" "${_lib}/libc10.so")

# The CUDA part is used where NVIDIA's libraries are installed with it (scripts/quickstart leaves them out without a GPU).
set(ATELIER_TORCH_CUDA OFF)
if(EXISTS "${_lib}/libtorch_cuda.so")
  # Libraries that they are linked with in turn are the loader's business, not ours.
  target_link_options(atelier_torch INTERFACE "LINKER:--allow-shlib-undefined")
  file(GLOB _cublas "${_lib}/libcublas.so*" "${ATELIER_TORCH_ROOT}/../nvidia/*/lib/libcublas.so*")
  find_library(ATELIER_CUBLAS NAMES cublas)
  mark_as_advanced(ATELIER_CUBLAS)
  if(_cublas OR ATELIER_CUBLAS)
    set(ATELIER_TORCH_CUDA ON)
    # Nothing of ours names a CUDA symbol, so the linker would drop the libraries that register the CUDA kernels.
    target_link_libraries(atelier_torch INTERFACE
        "-Wl,--no-as-needed" "${_lib}/libtorch_cuda.so" "${_lib}/libc10_cuda.so" "-Wl,--as-needed")
    list(APPEND ATELIER_TORCH_LIBRARIES "${_lib}/libtorch_cuda.so" "${_lib}/libc10_cuda.so")
  endif()
  message(STATUS "LibTorch's CUDA part: ${ATELIER_TORCH_CUDA}")
endif()
