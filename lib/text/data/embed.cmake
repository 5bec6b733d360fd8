# clip_vocabulary.cpp takes clip_merges.bin in with .incbin, which neither the compiler's dependencies nor ccache see.
set(_merges "${CMAKE_CURRENT_LIST_DIR}/clip_merges.bin")
set_source_files_properties("${CMAKE_CURRENT_LIST_DIR}/../clip_vocabulary.cpp" PROPERTIES
    COMPILE_DEFINITIONS "ATELIER_CLIP_MERGES=\"${_merges}\"" OBJECT_DEPENDS "${_merges}")
