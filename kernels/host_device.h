#ifndef WEIR_KERNELS_HOST_DEVICE_H_
#define WEIR_KERNELS_HOST_DEVICE_H_

// Marks a function that the host and the device compile from one copy.
#if defined(__CUDACC__)
#define WEIR_HOST_DEVICE __host__ __device__
#else
#define WEIR_HOST_DEVICE
#endif

#endif  // WEIR_KERNELS_HOST_DEVICE_H_
