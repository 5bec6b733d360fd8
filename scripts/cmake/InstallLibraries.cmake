# Run by `cmake --install`: copies `libraries` (LibTorch's, of the wheel in `torch_root`) and all that they need.
set(loaded_by_name "")
if(torch_cuda)   # libraries that LibTorch and NVIDIA's own open while they run, which no dependency shows
  file(GLOB loaded_by_name "${torch_root}/lib/libtorch_cuda_linalg.so" "${torch_root}/lib/libcaffe2_nvrtc.so"
       "${torch_root}/../nvidia/*/lib/*.so*")
endif()
file(GET_RUNTIME_DEPENDENCIES
     LIBRARIES ${libraries}
     RESOLVED_DEPENDENCIES_VAR resolved UNRESOLVED_DEPENDENCIES_VAR unresolved CONFLICTING_DEPENDENCIES_PREFIX conflict
     # What every machine with a C++ runtime has, and the graphics driver, which belongs to the machine.
     PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|util|pthread|gcc_s|stdc\\+\\+|cuda|nvidia-ml)\\.so")
if(unresolved)
  message(FATAL_ERROR "LibTorch needs libraries that are not here: ${unresolved}")
endif()
foreach(name IN LISTS conflict_FILENAMES)
  list(GET conflict_${name} 0 first)
  list(APPEND resolved "${first}")
endforeach()
file(INSTALL ${libraries} ${resolved} ${loaded_by_name} DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/atelier"
     TYPE SHARED_LIBRARY FOLLOW_SYMLINK_CHAIN)
