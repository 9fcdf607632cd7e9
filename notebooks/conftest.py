"""What nbval leaves out of its comparison of stored and new outputs."""


def pytest_collectstart(collector):
    """Skip stderr: TensorFlow's start-up lines carry the time of day."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
