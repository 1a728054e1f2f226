// SPDX-License-Identifier: MIT
#include "train_ensemble/train_ensemble-inl.h"
