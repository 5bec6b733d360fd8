# `cmake --install build/release --prefix DIR` gives a folder that can be moved: bin/, lib/atelier/, share/.
