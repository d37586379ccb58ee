"""From stored volumes to training batches: reading, augmentation, control inputs."""
