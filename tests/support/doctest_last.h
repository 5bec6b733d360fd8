#pragma once

// Include this after every other header of a test that uses LibTorch: c10's logging defines macros of the same names, and
// whichever comes last wins. Taken the other way round a failed CHECK would abort instead of being counted.
#undef CHECK
#undef CHECK_EQ
#undef CHECK_NE
#undef CHECK_LT
#undef CHECK_LE
#undef CHECK_GT
#undef CHECK_GE
#include <doctest/doctest.h>
