// SPDX-License-Identifier: MIT
#include "sampled_deficits/sampled_deficits-inl.h"
