"""What every model must meet, as a reusable test class."""
