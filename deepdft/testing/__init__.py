"""Requirements on every model, as a reusable test class."""
