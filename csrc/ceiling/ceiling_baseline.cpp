// SPDX-License-Identifier: MIT
#include "ceiling/ceiling-inl.h"
