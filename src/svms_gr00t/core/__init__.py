"""The words every stage shares: types, errors, configuration, progress, seeding."""
