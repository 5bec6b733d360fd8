# Third-party libraries: from the system or from .deps (where scripts/quickstart unpacks packages when it may not install
# them); header-only ones that are in neither are fetched, pinned.
include(FetchContent)
set(ATELIER_DEPS_DIR "${CMAKE_SOURCE_DIR}/.deps" CACHE PATH "Where scripts/quickstart unpacks libraries that the system lacks")
list(APPEND CMAKE_PREFIX_PATH "${ATELIER_DEPS_DIR}/usr")

find_package(PkgConfig QUIET)
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)                        # PNG
find_package(OpenSSL REQUIRED COMPONENTS Crypto)   # SHA-256 of manifests
if(OPENSSL_INCLUDE_DIR STREQUAL "${ATELIER_DEPS_DIR}/usr/include")
  # Debian keeps OpenSSL's configuration header apart, in a folder that compilers search under /usr only.
  target_include_directories(OpenSSL::Crypto INTERFACE "${OPENSSL_INCLUDE_DIR}/${CMAKE_LIBRARY_ARCHITECTURE}")
endif()

# atelier_header_library(TARGET HEADER REPOSITORY TAG SUBFOLDER): an imported target for the folder that has HEADER. The
# packages' own CMake files are not used: they want libraries that header-only use does not need.
function(atelier_header_library target header repository tag subfolder)
  string(MAKE_C_IDENTIFIER "${target}" name)
  find_path(ATELIER_INCLUDE_${name} "${header}")
  mark_as_advanced(ATELIER_INCLUDE_${name})
  set(folder "${ATELIER_INCLUDE_${name}}")
  if(NOT folder)
    message(STATUS "${header} not found: fetching ${repository} ${tag}")
    # A SOURCE_SUBDIR that does not exist: only the files are wanted, not the project's own build.
    FetchContent_Declare(${name} GIT_REPOSITORY "${repository}" GIT_TAG "${tag}" GIT_SHALLOW ON SOURCE_SUBDIR none)
    FetchContent_MakeAvailable(${name})
    FetchContent_GetProperties(${name} SOURCE_DIR folder)
    string(APPEND folder "/${subfolder}")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_include_directories(${target} INTERFACE "${folder}")
endfunction()

atelier_header_library(CLI11::CLI11 CLI/CLI.hpp https://github.com/CLIUtils/CLI11.git v2.4.2 include)
atelier_header_library(nlohmann_json::nlohmann_json nlohmann/json.hpp https://github.com/nlohmann/json.git v3.11.3 include)
atelier_header_library(fmt::fmt-header-only fmt/format.h https://github.com/fmtlib/fmt.git 10.2.1 include)
target_compile_definitions(fmt::fmt-header-only INTERFACE FMT_HEADER_ONLY=1)
# stb has no releases: a commit, into a folder called stb.
find_path(ATELIER_INCLUDE_stb stb/stb_image.h)
mark_as_advanced(ATELIER_INCLUDE_stb)
set(_stb "${ATELIER_INCLUDE_stb}")
if(NOT _stb)
  set(_stb "${CMAKE_BINARY_DIR}/_deps/stb-include")
  message(STATUS "stb/stb_image.h not found: fetching https://github.com/nothings/stb.git")
  FetchContent_Declare(stb GIT_REPOSITORY https://github.com/nothings/stb.git
                       GIT_TAG 8b5f1f37b5b75829fc72d38e7b5d4bcbf8a26d55 SOURCE_DIR "${_stb}/stb" SOURCE_SUBDIR none)
  FetchContent_MakeAvailable(stb)
endif()
add_library(stb_headers INTERFACE IMPORTED GLOBAL)
target_include_directories(stb_headers INTERFACE "${_stb}")
if(ATELIER_BUILD_TESTS)
  atelier_header_library(doctest_headers doctest/doctest.h https://github.com/doctest/doctest.git v2.4.11 .)
endif()

# libedit (BSD licence): gemma-chat's line editing. Without it the tool is built with a plain line reader.
option(ATELIER_LIBEDIT "Edit lines in gemma-chat with libedit, where it is found" ON)
set(ATELIER_LIBEDIT_USABLE OFF)
if(ATELIER_LIBEDIT)
  find_path(ATELIER_LIBEDIT_INCLUDE histedit.h)
  find_library(ATELIER_LIBEDIT_LIBRARY edit)
  mark_as_advanced(ATELIER_LIBEDIT_INCLUDE ATELIER_LIBEDIT_LIBRARY)
  if(ATELIER_LIBEDIT_INCLUDE AND ATELIER_LIBEDIT_LIBRARY)
    include(CheckCXXSourceCompiles)
    set(CMAKE_REQUIRED_INCLUDES "${ATELIER_LIBEDIT_INCLUDE}")
    set(CMAKE_REQUIRED_LIBRARIES "${ATELIER_LIBEDIT_LIBRARY}")
    check_cxx_source_compiles("#include <cstdio>
      #include <histedit.h>
      int main() { return el_init(\"\", stdin, stdout, stderr) == nullptr; }" ATELIER_LIBEDIT_LINKS)
    unset(CMAKE_REQUIRED_INCLUDES)
    unset(CMAKE_REQUIRED_LIBRARIES)
    set(ATELIER_LIBEDIT_USABLE ${ATELIER_LIBEDIT_LINKS})
  endif()
  if(NOT ATELIER_LIBEDIT_USABLE)
    message(STATUS "libedit not found: gemma-chat will have no line editing")
  elseif(ATELIER_LIBEDIT_LIBRARY MATCHES "^${ATELIER_DEPS_DIR}/")
    get_filename_component(_folder "${ATELIER_LIBEDIT_LIBRARY}" DIRECTORY)
    list(APPEND CMAKE_BUILD_RPATH "${_folder}")
  endif()
endif()

include(SentencePiece)   # atelier::sentencepiece
