"""Pages, pictures and the colours of the inputs."""
