"""Run the whole tool inside a container of docker or podman."""
