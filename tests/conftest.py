"""What holds for all tests."""

from hypothesis import settings

# machines are noisy: how long an example takes proves nothing
settings.register_profile("penstock", deadline=None)
settings.load_profile("penstock")
