"""What this machine can compute with: device, precision and kernels, processes, doctor."""
