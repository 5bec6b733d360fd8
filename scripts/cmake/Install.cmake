# `cmake --install build/release --prefix DIR` gives a folder that can be moved:
#   bin/           the tools; their RPATH is $ORIGIN/../lib/atelier (Settings.cmake)
#   lib/atelier/   LibTorch's shared libraries and what they need beyond the C and C++ runtimes
#   share/         the models and presets that ship, completions for bash and zsh, the licence
install(TARGETS ${ATELIER_TOOLS} RUNTIME DESTINATION bin)
install(DIRECTORY "${CMAKE_SOURCE_DIR}/examples/models/" DESTINATION share/atelier/models)
install(DIRECTORY "${CMAKE_SOURCE_DIR}/examples/presets/" DESTINATION share/atelier/presets)
install(FILES "${CMAKE_SOURCE_DIR}/LICENSE" DESTINATION share/doc/atelier)
install(CODE "
  set(libraries \"${ATELIER_TORCH_LIBRARIES}\")
  if(${ATELIER_LIBEDIT_USABLE})
    list(APPEND libraries \"${ATELIER_LIBEDIT_LIBRARY}\")
  endif()
  set(torch_root \"${ATELIER_TORCH_ROOT}\")
  set(torch_cuda \"${ATELIER_TORCH_CUDA}\")
  set(tools \"${ATELIER_TOOLS}\")")
install(SCRIPT "${CMAKE_CURRENT_LIST_DIR}/InstallLibraries.cmake")
install(SCRIPT "${CMAKE_CURRENT_LIST_DIR}/InstallCompletions.cmake")
