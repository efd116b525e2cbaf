"""Run the whole tool in a container of docker or podman."""
