// SPDX-License-Identifier: MIT
#include "path_losses/path_losses-inl.h"
