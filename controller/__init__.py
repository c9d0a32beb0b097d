"""The shell: time, network and processes around the pure packages."""
