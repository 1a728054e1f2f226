// SPDX-License-Identifier: MIT
#include "two_layer_relu/two_layer_relu-inl.h"
