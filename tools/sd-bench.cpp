// sd-bench: compares picture models, and measures pictures and speed. Command -> its options -> one library call -> exit code.
#include "cli/bench.h"

int main(int argc, char** argv) { return atelier::cli::bench_main(argc, argv); }
