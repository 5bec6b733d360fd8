# atelier::sentencepiece, 0.2.1 or newer: older ones read out of bounds with hostile models. Distributions ship older
# ones, so the usual way is the C++ sources in its Python package's source distribution, fetched with pip and built as a
# static library.
set(_version 0.2.1)
set(_sha256 8138cec27c2f2282f4a34d9a016e3374cd40e5c6e9cb335063db66a0a3b71fad)
if(PkgConfig_FOUND)
  pkg_check_modules(SPM QUIET IMPORTED_TARGET "sentencepiece>=${_version}")
endif()
add_library(atelier_sentencepiece INTERFACE)
add_library(atelier::sentencepiece ALIAS atelier_sentencepiece)
if(SPM_FOUND)
  message(STATUS "sentencepiece ${SPM_VERSION} from the system")
  target_link_libraries(atelier_sentencepiece INTERFACE PkgConfig::SPM)
  return()
endif()

set(_archive "${ATELIER_DEPS_DIR}/sentencepiece-${_version}.tar.gz")
set(_source "${ATELIER_DEPS_DIR}/sentencepiece-${_version}/sentencepiece")
if(NOT EXISTS "${_archive}")
  message(STATUS "Downloading the sources of sentencepiece ${_version} with pip")
  find_program(ATELIER_PYTHON NAMES python3 PATHS "${CMAKE_SOURCE_DIR}/.venv/bin" NO_DEFAULT_PATH)   # has pip for sure
  find_program(ATELIER_PYTHON NAMES python3 REQUIRED)
  execute_process(COMMAND "${ATELIER_PYTHON}" -m pip download --quiet --disable-pip-version-check --no-deps
                          --no-binary sentencepiece --dest "${ATELIER_DEPS_DIR}" "sentencepiece==${_version}"
                  RESULT_VARIABLE _failed ERROR_VARIABLE _message)
  if(_failed)
    message(FATAL_ERROR "sentencepiece ${_version} could not be downloaded:\n${_message}")
  endif()
endif()
file(SHA256 "${_archive}" _found)
if(NOT _found STREQUAL _sha256)
  message(FATAL_ERROR "${_archive} has SHA-256 ${_found}, expected ${_sha256}")
endif()
if(NOT EXISTS "${_source}/CMakeLists.txt")
  file(ARCHIVE_EXTRACT INPUT "${_archive}" DESTINATION "${ATELIER_DEPS_DIR}")
endif()

set(SPM_ENABLE_SHARED OFF CACHE BOOL "" FORCE)
set(SPM_ENABLE_TCMALLOC OFF CACHE BOOL "" FORCE)
set(SPM_BUILD_TEST OFF CACHE BOOL "" FORCE)
set(SPM_DISABLE_EMBEDDED_DATA OFF CACHE BOOL "" FORCE)
set(CMAKE_POLICY_VERSION_MINIMUM 3.5)
add_subdirectory("${_source}" "${CMAKE_BINARY_DIR}/sentencepiece" EXCLUDE_FROM_ALL SYSTEM)
target_compile_options(sentencepiece-static PRIVATE -w)
target_link_libraries(atelier_sentencepiece INTERFACE sentencepiece-static)
target_include_directories(atelier_sentencepiece SYSTEM INTERFACE "${_source}/src")
# LibTorch exports symbols of its own protobuf: keep the two apart.
target_link_options(atelier_sentencepiece INTERFACE "LINKER:--exclude-libs,libsentencepiece.a")
