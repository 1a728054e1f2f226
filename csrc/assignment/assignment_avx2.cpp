// SPDX-License-Identifier: MIT
#include "assignment/assignment-inl.h"
