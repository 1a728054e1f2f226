// SPDX-License-Identifier: MIT
#include "vector_math/vector_math-inl.h"
