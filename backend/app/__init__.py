"""The manual's server: the case API, and rehost's files under IMAGE_STATIC_URL_PREFIX."""
