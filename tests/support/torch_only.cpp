// A program that links LibTorch and does nothing: what starting any tool costs at least (scripts/bench text).
#include <ATen/Parallel.h>

int main() { return at::get_num_threads() > 0 ? 0 : 1; }
