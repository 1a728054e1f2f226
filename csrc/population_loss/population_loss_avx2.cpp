// SPDX-License-Identifier: MIT
#include "population_loss/population_loss-inl.h"
