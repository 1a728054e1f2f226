// SPDX-License-Identifier: MIT
// Marks functions that run on the host and on a GPU: what is not launch machinery, so that the host
// tests it.
#pragma once

#ifdef __CUDACC__
#define LMC_HOST_DEVICE __host__ __device__
#else
#define LMC_HOST_DEVICE
#endif
