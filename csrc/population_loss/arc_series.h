// SPDX-License-Identifier: MIT
// Coefficients, from the constant one on, of W on [0, 1/2]; arc_kernel-inl.h says what W is.
// Interpolated at Chebyshev nodes; relative error below 2^-53.9. A macro, because device code sees
// no array of the host's.
#pragma once

#define LMC_ARC_SERIES                                                                           \
  0x1.5555555555555p+0, 0x1.111111111115fp+0, 0x1.d41d41d41109bp-1, 0x1.a01a01a62ed5cp-1,        \
      0x1.7a462e6c0bc4dp-1, 0x1.5d2d5aa2dcc8cp-1, 0x1.45debbe0a4091p-1, 0x1.3343cefe630c8p-1,    \
      0x1.1aec37bec8309p-1, 0x1.6722d983e81cdp-1, -0x1.a12bba8e445a5p-1, 0x1.2303758120484p+3,   \
      -0x1.597f25a0586bbp+5, 0x1.5f3a78a7765d5p+7, -0x1.151fb3e17a16ep+9, 0x1.58fe4578032fep+10, \
      -0x1.4cf01c06c850dp+11, 0x1.e98af38c099a1p+11, -0x1.08fc489b93270p+12,                     \
      0x1.8f7edeab04767p+11, -0x1.779f1aa1a6ae0p+10, 0x1.4f1c31b02ebefp+8
