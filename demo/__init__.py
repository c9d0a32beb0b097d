"""The demo: three services on real traffic, one good candidate and two bad ones."""
