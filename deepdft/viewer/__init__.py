"""The web page that shows densities, and the JSON interface behind it (extra `view`)."""
