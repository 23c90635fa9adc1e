"""GR00T N1.6: configuration, backbone, diffusion transformer, action head and checkpoints, under NVIDIA's own names."""
