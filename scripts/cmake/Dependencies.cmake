# Third-party libraries: from the system where it has them, else fetched at configure time (pinned).
include(FetchContent)
find_package(PkgConfig QUIET)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)   # SHA-256 of manifests
find_package(Threads REQUIRED)

set(ATELIER_DEPS_DIR "${CMAKE_SOURCE_DIR}/.deps" CACHE PATH "Where scripts/quickstart unpacks libraries that the system lacks")
list(APPEND CMAKE_PREFIX_PATH "${ATELIER_DEPS_DIR}/usr")

find_package(CLI11 CONFIG QUIET)
if(NOT CLI11_FOUND)
  FetchContent_Declare(CLI11 GIT_REPOSITORY https://github.com/CLIUtils/CLI11.git GIT_TAG v2.4.2 GIT_SHALLOW ON)
  FetchContent_MakeAvailable(CLI11)
endif()

find_package(fmt CONFIG QUIET)
if(NOT fmt_FOUND)
  FetchContent_Declare(fmt GIT_REPOSITORY https://github.com/fmtlib/fmt.git GIT_TAG 10.2.1 GIT_SHALLOW ON)
  FetchContent_MakeAvailable(fmt)
endif()

find_package(nlohmann_json CONFIG QUIET)
if(NOT nlohmann_json_FOUND)
  FetchContent_Declare(nlohmann_json GIT_REPOSITORY https://github.com/nlohmann/json.git GIT_TAG v3.11.3 GIT_SHALLOW ON)
  FetchContent_MakeAvailable(nlohmann_json)
endif()

if(ATELIER_BUILD_TESTS)
  find_path(DOCTEST_INCLUDE doctest/doctest.h PATHS "${ATELIER_DEPS_DIR}/usr/include")
  if(NOT DOCTEST_INCLUDE)
    FetchContent_Declare(doctest GIT_REPOSITORY https://github.com/doctest/doctest.git GIT_TAG v2.4.11 GIT_SHALLOW ON)
    FetchContent_MakeAvailable(doctest)
    set(DOCTEST_INCLUDE "${doctest_SOURCE_DIR}" CACHE PATH "" FORCE)
  endif()
  add_library(doctest_headers INTERFACE)
  target_include_directories(doctest_headers SYSTEM INTERFACE "${DOCTEST_INCLUDE}")
endif()

include(SentencePiece)   # atelier::sentencepiece
