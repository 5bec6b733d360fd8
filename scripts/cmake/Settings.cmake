# Compiler settings shared by every room.
option(ATELIER_BUILD_TESTS "Build the tests" ON)
option(ATELIER_WERROR "Treat warnings as errors" OFF)
set(ATELIER_SANITIZE "" CACHE STRING "Sanitizers to build with, e.g. address,undefined")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib/atelier")

# -O2 keeps the build short; the kernels that need more ask for it themselves.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
# Debug information of every LibTorch header would dominate the build, hence -g1.
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1")

find_program(ATELIER_CCACHE ccache)
if(ATELIER_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are only cached with these two checks relaxed.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      "${CMAKE_COMMAND};-E;env;CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime;${ATELIER_CCACHE}")
endif()

# Flags of our own code only: third-party sources are not ours to warn about.
add_library(atelier_flags INTERFACE)
target_compile_options(atelier_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-unused-parameter
                                               $<$<BOOL:${ATELIER_WERROR}>:-Werror>)
target_include_directories(atelier_flags INTERFACE "${CMAKE_SOURCE_DIR}/lib")
target_compile_definitions(atelier_flags INTERFACE ATELIER_VERSION="${PROJECT_VERSION}")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(atelier_flags INTERFACE -fpch-preprocess)
endif()
if(ATELIER_SANITIZE)
  add_compile_options(-fsanitize=${ATELIER_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=${ATELIER_SANITIZE})
endif()

# atelier_room(NAME DEPENDS rooms... LINK libraries... [FOLDER folder] [FILES files...] [EXCEPT paths...]): one static
# library per room, from the *.cpp files of its folder: from FILES alone, or from all but EXCEPT (files or folders in it).
function(atelier_room name)
  cmake_parse_arguments(ARG "" "FOLDER" "DEPENDS;LINK;FILES;EXCEPT" ${ARGN})
  if(NOT ARG_FOLDER)
    set(ARG_FOLDER "${name}")
  endif()
  set(folder "${CMAKE_CURRENT_SOURCE_DIR}/${ARG_FOLDER}")
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS "${folder}/*.cpp")
  if(ARG_FILES)
    list(TRANSFORM ARG_FILES PREPEND "${folder}/" OUTPUT_VARIABLE sources)
  endif()
  foreach(path IN LISTS ARG_EXCEPT)
    list(FILTER sources EXCLUDE REGEX "/${ARG_FOLDER}/${path}(/|$)")
  endforeach()
  if(NOT sources)   # while the room is still empty
    add_library(atelier_${name} INTERFACE)
    add_library(atelier::${name} ALIAS atelier_${name})
    return()
  endif()
  add_library(atelier_${name} STATIC ${sources})
  add_library(atelier::${name} ALIAS atelier_${name})
  list(TRANSFORM ARG_DEPENDS PREPEND "atelier::")
  target_link_libraries(atelier_${name} PUBLIC atelier_flags ${ARG_DEPENDS} ${ARG_LINK})
endfunction()
